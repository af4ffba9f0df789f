//! voxseg
