//! Files that want more than to be read: each is refused with the name of what it tried, and none runs anything.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use rawzip::ZipArchiveWriter;
use voxseg::run::{Entry, write_safetensors};
use voxseg::weights::{WeightsError, WeightsFile};

use crate::fixture;

/// Adds a file to an archive as PyTorch does, uncompressed.
pub fn store<W: Write>(writer: &mut ZipArchiveWriter<W>, name: &str, content: &[u8]) {
    let (mut entry, config) = writer.new_file(name).start().unwrap();
    let mut data = config.wrap(&mut entry);
    data.write_all(content).unwrap();
    let (_, descriptor) = data.finish().unwrap();
    entry.finish(descriptor).unwrap();
}

/// A checkpoint with this pickle and one storage of four f32.
fn checkpoint(path: &Path, pickle: &[u8]) {
    let mut bytes = Vec::new();
    let mut writer = ZipArchiveWriter::new(&mut bytes);
    store(&mut writer, "archive/data.pkl", pickle);
    store(&mut writer, "archive/byteorder", b"little");
    store(&mut writer, "archive/data/0", &[0; 16]);
    writer.finish().unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn refusal(pickle: &[u8]) -> WeightsError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.pth");
    checkpoint(&path, pickle);
    let start = Instant::now();
    let error = match WeightsFile::open(&path) {
        Err(error) => error,
        Ok(mut file) => file.read("w").expect_err("it is hostile"),
    };
    assert!(start.elapsed() < Duration::from_secs(20), "{error}");
    let text = error.to_string();
    assert!(text.starts_with(&path.display().to_string()), "{text}");
    assert!(error.is_users_fault(), "{text}");
    error
}

/// A dictionary with the tensor `w`: a view of `elements` f32 of storage `key`.
fn tensor(key: &str, elements: &str, offset: &str, shape: &str, stride: &str) -> Vec<u8> {
    let mut pickle = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(".to_vec();
    pickle.extend(b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX");
    pickle.extend((key.len() as u32).to_le_bytes());
    pickle.extend(key.as_bytes());
    pickle.extend(b"X\x03\x00\x00\x00cpu");
    pickle.extend(long(elements));
    pickle.extend(b"tQ");
    pickle.extend(long(offset));
    for list in [shape, stride] {
        pickle.push(b'(');
        list.split_whitespace().for_each(|n| pickle.extend(long(n)));
        pickle.push(b't');
    }
    pickle.extend(b"\x89NtRs.");
    pickle
}

/// LONG1 of a number in decimal.
fn long(number: &str) -> Vec<u8> {
    let number: i128 = number.parse().unwrap();
    let len = if i64::try_from(number).is_ok() { 8 } else { 9 };
    let mut bytes = vec![0x8a, len];
    bytes.extend(&number.to_le_bytes()[..usize::from(len)]);
    bytes
}

#[test]
fn the_crafted_tensor_is_fine_where_nothing_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fine.pth");
    checkpoint(&path, &tensor("0", "4", "1", "3", "1"));
    let mut file = WeightsFile::open(&path).unwrap();
    assert_eq!(file.read("w").unwrap(), [0.0; 3]);
    assert!(file.read("v").unwrap_err().to_string().contains("`v`"));
}

#[test]
fn code_is_named_and_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let witness = folder.path().join("witness");
    let touch = format!("touch {}", witness.display());
    let short = |text: &str| {
        let mut bytes = vec![b'X'];
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    };
    let call = |name: &str, argument: &str| {
        let (module, name) = name.rsplit_once('.').unwrap();
        let mut pickle = format!("\u{2}c{module}\n{name}\n").into_bytes();
        pickle.insert(0, 0x80);
        pickle.extend(short(argument));
        pickle.extend(b"\x85R.");
        pickle
    };
    for name in [
        "os.system",
        "posix.system",
        "nt.system",
        "subprocess.Popen",
        "builtins.eval",
        "__builtin__.exec",
        "builtins.__import__",
        "runpy.run_path",
        "torch.load",
        "torch.hub.load",
        "torch.storage._load_from_bytes",
        "torch._utils._rebuild_from_type_v2",
        "torch.nn.modules.conv.Conv2d",
        "numpy.load",
        "collections.defaultdict",
        "functools.partial",
    ] {
        let error = refusal(&call(name, &touch));
        assert!(
            matches!(&error, WeightsError::Forbidden { name: n, .. } if *n == format!("`{name}`")),
            "{name}: {error}"
        );
        assert!(error.to_string().contains(name), "{error}");
    }
    // The same by way of STACK_GLOBAL, of INST, and of what a getattr finds.
    let mut stack_global = b"\x80\x04".to_vec();
    stack_global.extend([short("os"), short("system")].concat());
    stack_global.extend(b"\x93");
    let mut inst = b"\x80\x02(".to_vec();
    inst.extend(short(&touch));
    inst.extend(b"ios\nsystem\n.");
    let mut getattr = b"\x80\x02cbuiltins\ngetattr\nccollections\nOrderedDict\n".to_vec();
    getattr.extend(short("__class__"));
    getattr.extend(b"\x86R)R.");
    for (pickle, name) in [
        (stack_global, "`os.system`"),
        (inst, "`os.system`"),
        (getattr, "`builtins.getattr`"),
    ] {
        let error = refusal(&pickle).to_string();
        assert!(
            error.contains(name) && error.contains("nothing of it was run"),
            "{error}"
        );
    }
    assert!(!witness.exists());
}

#[test]
fn calls_and_opcodes_that_tensors_do_not_need_are_named() {
    for (pickle, words) in [
        // What a call gives is called again; a text is called; a storage class is called.
        (
            &b"\x80\x02ctorch\ndevice\n)R)R."[..],
            "a call of what is no function",
        ),
        (
            b"\x80\x02X\x01\x00\x00\x00f)R.",
            "a call of what is no function",
        ),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "a call of Storage"),
        (
            b"\x80\x02ccollections\nOrderedDict\n]\x85R.",
            "a call of OrderedDict",
        ),
        (
            b"\x80\x02ctorch\nComplexFloatStorage\n.",
            "`torch.ComplexFloatStorage`",
        ),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "NEWOBJ"),
        (b"\x80\x02(ccollections\nOrderedDict\no.", "OBJ"),
        (b"\x80\x02\x82\x01.", "EXT"),
        (b"\x80\x02Pfile\n.", "PERSID"),
        (b"\x80\x02I1\n.", "protocol 0"),
        (b"\x80\x05\x97.", "BUFFER"),
        (b"\x80\x02\xff.", "0xff"),
    ] {
        let error = refusal(pickle);
        assert!(matches!(error, WeightsError::Forbidden { .. }), "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}

#[test]
fn pickles_that_contradict_themselves_are_damaged() {
    for (pickle, words) in [
        (&b""[..], "ends"),
        (b"\x80", "ends"),
        (b"\x80\x01.", "protocol 1"),
        (b"\x80\x02.", "empty stack"),
        (b"\x80\x02}", "ends"),
        (b"\x80\x02cos", "ends within a name"),
        (b"\x80\x02h\x00.", "recalls entry 0"),
        (b"\x80\x02}q\x00h\x01.", "recalls entry 1"),
        (b"\x80\x02t.", "never opened"),
        (b"\x80\x02}(K\x01u.", "key without a value"),
        (b"\x80\x02](K\x01K\x01u.", "no dictionary"),
        (b"\x80\x02}K\x01a.", "no list"),
        (b"\x80\x02K\x01}b.", "attributes"),
        (b"\x80\x02}(}s.", "empty stack"),
        (b"\x80\x02K\x01Q.", "persistent id"),
        (b"\x80\x02X\x02\x00\x00\x00\xff\xfe.", "UTF-8"),
        (b"\x80\x02K\x01K\x02\x93.", "without a text"),
        (
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
            "fewer than four",
        ),
        (
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(]]]]tR.",
            "has no storage",
        ),
        // Lengths far beyond the file.
        (b"\x80\x02X\xff\xff\xff\xffa.", "4294967295 bytes"),
        (
            b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xffa.",
            "bytes that it promises",
        ),
        (
            b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fa.",
            "bytes that it promises",
        ),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "bytes that it promises"),
    ] {
        let error = refusal(pickle);
        assert!(matches!(error, WeightsError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}

#[test]
fn cycles_and_nesting_end_in_an_error() {
    let deep = |open: &[u8], close: &[u8], times: usize| {
        [
            b"\x80\x02",
            open.repeat(times).as_slice(),
            &close.repeat(times),
            b".",
        ]
        .concat()
    };
    for (pickle, words) in [
        // A list in itself, a dictionary that is its own state dict.
        (b"\x80\x02]q\x00h\x00a.".to_vec(), "a list"),
        (
            b"\x80\x02}q\x00X\x0a\x00\x00\x00state_dicth\x00s.".to_vec(),
            "no dictionary of tensors",
        ),
        (deep(b"]", b"a", 1_000_000)[..].to_vec(), "empty stack"),
        (
            [
                b"\x80\x02]".as_slice(),
                &b"]".repeat(1_000_000),
                &b"a".repeat(1_000_000),
                b".",
            ]
            .concat(),
            "a list",
        ),
        (
            [b"\x80\x02)".as_slice(), &b"\x85".repeat(1_000_000), b"."].concat(),
            "a list",
        ),
        (
            [b"\x80\x02".as_slice(), &b"}".repeat(6_000_000), b"."].concat(),
            "values",
        ),
        (
            [b"\x80\x02}".as_slice(), &b"2".repeat(6_000_000), b"."].concat(),
            "values",
        ),
        (
            [b"\x80\x02}".as_slice(), &b"(".repeat(6_000_000), b"."].concat(),
            "values",
        ),
        // A text doubled again and again would fill any memory; here a text is there once.
        (
            [
                b"\x80\x02X\x01\x00\x00\x00aq\x00".as_slice(),
                &b"h\x00\x86q\x00h\x00".repeat(64),
                b".",
            ]
            .concat(),
            "a list",
        ),
    ] {
        let error = refusal(&pickle).to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn tensors_beyond_their_storage_are_refused() {
    let most = u64::MAX.to_string();
    for (pickle, words) in [
        (tensor("0", "4", "0", "5", "1"), "beyond"),
        (tensor("0", "4", "4", "1", "1"), "beyond"),
        (tensor("0", "4", "-1", "1", "1"), "no size"),
        (tensor("0", "4", "0", "2 2", "1"), "strides"),
        (tensor("0", "4", "0", "1", "-1"), "no size"),
        (
            tensor("0", "4", "0", "1 1 1 1 1 1 1 1 1", "1 1 1 1 1 1 1 1 1"),
            "no size",
        ),
        (tensor("0", "4", "0", "100000000000", "0"), "contiguous"),
        (
            tensor("0", "4", "0", "4294967296 4294967296 4294967296", "0 0 0"),
            "beyond",
        ),
        (tensor("0", "5", "0", "5", "1"), "promises 20"),
        (tensor("0", "3", "0", "3", "1"), "16 bytes"),
        (
            tensor("0", "4611686018427387904", "0", "1", "1"),
            "beyond any size",
        ),
        (
            tensor("0", "1000000000000", "0", "4", "1"),
            "promises 4000000000000",
        ),
        (tensor("0", &most, "0", "1", "1"), "persistent id"),
        (tensor("7", "4", "0", "1", "1"), "archive/data/7"),
        (tensor("../../etc/passwd", "4", "0", "1", "1"), "no file"),
    ] {
        let error = refusal(&pickle).to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
}

/// Every cut and every flipped byte of a real checkpoint is an error or still a checkpoint, and no panic.
#[test]
fn a_damaged_checkpoint_never_panics() {
    let whole = std::fs::read(fixture("weights/numbers.pth")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pth");
    let read_all = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let mut file = WeightsFile::open(&path)?;
        let names: Vec<String> = file.shapes().map(|(name, _)| name.to_owned()).collect();
        names.iter().try_for_each(|name| file.read(name).map(drop))
    };
    assert!(read_all(&whole).is_ok());
    for end in (0..whole.len()).step_by(37) {
        let error = read_all(&whole[..end]).expect_err("it is cut off");
        assert!(error.is_users_fault(), "{error}");
    }
    let mut refused = 0;
    for at in (0..whole.len()).step_by(3) {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            refused += usize::from(read_all(&bytes).is_err());
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn pickles_without_an_archive_are_refused_by_what_they_try() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bare.pth");
    let legacy =
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    let call = b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.";
    let header_less = b"cposix\nsystem\n(X\x02\x00\x00\x00idtR.";
    for bytes in [
        call.to_vec(),
        [b"\x80\x02}.", call.as_slice()].concat(),
        [legacy, call.as_slice()].concat(),
        header_less.to_vec(),
    ] {
        std::fs::write(&path, &bytes).unwrap();
        let error = WeightsFile::open(&path).unwrap_err();
        assert!(
            matches!(&error, WeightsError::Forbidden { name, .. } if name == "`posix.system`"),
            "{error}"
        );
    }
}

#[test]
fn other_forms_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.pt");
    let zip = |names: &[&str]| {
        let mut bytes = Vec::new();
        let mut writer = ZipArchiveWriter::new(&mut bytes);
        names
            .iter()
            .for_each(|name| store(&mut writer, name, b"\x80\x02}."));
        writer.finish().unwrap();
        bytes
    };
    let legacy = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.";
    let list = b"\x80\x02]K\x01a.".to_vec();
    for (bytes, words) in [
        (legacy.to_vec(), "before 1.6"),
        (list, "bare pickle"),
        (b"".to_vec(), "empty"),
        (b"{\"weights\": 1}".to_vec(), "neither"),
        (
            zip(&["a/data.pkl", "a/constants.pkl"]),
            "torch.jit.load(OLD).state_dict()",
        ),
        (zip(&["a/notes.txt"]), "without a data.pkl"),
        (zip(&["a/data.pkl"]), "no dictionary of tensors"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{".to_vec(), "damaged"),
        (b"\x02\0\0\0\0\0\0\0{}".to_vec(), "network"),
    ] {
        std::fs::write(&path, &bytes).unwrap();
        let Err(error) = WeightsFile::open(&path) else {
            assert_eq!(words, "network", "an empty safetensors file is whole");
            continue;
        };
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    let missing = WeightsFile::open(&folder.path().join("none.pth")).unwrap_err();
    assert!(missing.is_users_fault() && missing.to_string().contains("none.pth"));
}

#[test]
fn numbers_that_are_not_finite_are_refused_by_the_name_of_their_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("diverged.safetensors");
    for (bad, word) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let entries = [("whole", [0.0, 1.0, 2.0]), ("lost", [0.0, bad, 2.0])];
        let entries = entries.each_ref().map(|(name, data)| Entry {
            name,
            shape: &[3],
            data,
        });
        write_safetensors(&path, &entries, serde_json::json!({})).unwrap();
        let mut file = WeightsFile::open(&path).unwrap();
        assert_eq!(file.read("whole").unwrap(), [0.0, 1.0, 2.0]);
        let text = file.read("lost").unwrap_err().to_string();
        assert!(
            text.contains("`lost`: element 1 of 3") && text.contains(word),
            "{text}"
        );
    }
}
