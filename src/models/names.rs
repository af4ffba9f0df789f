//! Networks by name: what there is, what is meant, and which of them a plan can make.

use super::{Key, MODELS, Model, ModelError, OfBlueprint, Task};
use crate::style::DecoderStyle;

/// Names that are suggested, at most.
const SUGGESTED: usize = 5;

/// What is shorter stands in too many names.
const SHORTEST_PART: usize = 3;

/// The model of that name.
///
/// # Errors
/// [`ModelError::Unknown`], which lists those that are called alike.
pub fn model(name: &str) -> Result<&'static Model, ModelError> {
    let found = MODELS.iter().copied().find(|model| model.name == name);
    found.ok_or_else(|| ModelError::Unknown {
        name: name.to_owned(),
        near: near(name),
    })
}

/// The segmentation network of that name that follows a plan.
///
/// # Errors
/// [`ModelError::Unknown`], [`ModelError::Classifier`]; [`ModelError::OneForm`], which lists those that follow plans.
pub fn planned_model(name: &str) -> Result<OfBlueprint, ModelError> {
    let model = model(name)?;
    if model.task == Task::Classification {
        return Err(ModelError::Classifier(model.name));
    }
    model.of_blueprint.ok_or_else(|| {
        let planned = MODELS.iter().filter(|m| m.of_blueprint.is_some());
        ModelError::OneForm {
            name: model.name,
            planned: planned.map(|m| m.name).collect::<Vec<_>>().join(", "),
        }
    })
}

/// Checks that the model of that name is for slices (`planar`) or for volumes, where its name says for which it is;
/// `found` says in words why it is to be the one or the other.
///
/// # Errors
/// [`ModelError::Dimensions`], which says what to take instead.
pub fn check_dimensions(name: &str, planar: bool, found: &'static str) -> Result<(), ModelError> {
    let model = model(name)?;
    if model.planar().is_none_or(|is_for| is_for == planar) {
        return Ok(());
    }
    let other = model.other_name();
    let other = other.filter(|other| planned_model(other).is_ok());
    Err(ModelError::Dimensions {
        name: model.name,
        expected: if planar { "volumes" } else { "slices" },
        found,
        remedy: match other {
            Some(other) => format!("take `{other}`"),
            None => "take one whose name has no dimension".to_owned(),
        },
    })
}

/// Checks that the model of that name can have such a decoder at all, whichever of the keys it follows.
///
/// # Errors
/// [`ModelError::Config`], which lists those that have any; [`ModelError::Unknown`].
pub fn check_decoder(name: &str, style: DecoderStyle) -> Result<(), ModelError> {
    // One that has gates or summed heads of its own follows the other key, and plans may say both.
    let is_styled = |m: &Model| m.follows(Key::HeadStyle) || m.follows(Key::AttentionGates);
    if style.is_usual() || is_styled(model(name)?) {
        return Ok(());
    }
    let styled = MODELS.iter().filter(|model| is_styled(model));
    let styled: Vec<&str> = styled.map(|model| model.name).collect();
    Err(ModelError::Config(format!(
        "`head_style` and `attention_gates` are for {}, not for `{name}`; leave them out",
        styled.join(", ")
    )))
}

/// The names that are most like `name`, whatever its case and separators: what is meant by `vnet-bn` or `unter`.
fn near(name: &str) -> Vec<&'static str> {
    let wanted = plain(name);
    let has_part = |known: &[char]| {
        let shorter = wanted.len().min(known.len());
        shorter >= SHORTEST_PART && (holds(known, &wanted) || holds(&wanted, known))
    };
    let names = MODELS.iter().map(|model| model.name);
    let mut known: Vec<_> = names.map(|name| (name, plain(name))).collect();
    // Stable, so that equals keep the order of the list.
    known.sort_by_key(|(_, known)| edits(&wanted, known));
    let few = |known: &[char]| edits(&wanted, known) <= wanted.len().div_ceil(SHORTEST_PART);
    let are = |is_near: &dyn Fn(&[char]) -> bool| {
        let found = known.iter().filter(|(_, known)| is_near(known));
        found
            .map(|(name, _)| *name)
            .take(SUGGESTED)
            .collect::<Vec<_>>()
    };
    match are(&has_part) {
        parts if parts.is_empty() => are(&few),
        parts => parts,
    }
}

fn plain(name: &str) -> Vec<char> {
    let kept = name.chars().filter(|c| c.is_alphanumeric());
    kept.flat_map(char::to_lowercase).collect()
}

fn holds(whole: &[char], part: &[char]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

/// Characters to insert, remove or replace to make `b` of `a` (Levenshtein 1966).
fn edits(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        let count = |a, b| edits(&plain(a), &plain(b));
        assert_eq!(count("", "unet"), 4);
        assert_eq!(count("unter", "unetr"), 2);
        assert_eq!(count("VNet", "v_net"), 0);
        assert_eq!(count("kitten", "sitting"), 3);
    }

    #[test]
    fn names_like_the_given_one_are_found() {
        for (name, expected) in [
            ("VNet", &["vnet", "vnet_bn", "vnet_elu"][..]),
            ("vnet-bn", &["vnet_bn", "vnet"]),
            ("unter", &["unetr"]),
            ("swinunetr", &["unetr"]),
            ("nnunet", &["nnunet3d", "nnunet2d"]),
            ("resenc", &["resenc3d", "resenc2d"]),
            ("unet9000", &[]),
            ("", &[]),
            ("é", &[]),
        ] {
            assert_eq!(near(name), expected, "{name}");
        }
        assert_eq!(near("mobilenet").len(), SUGGESTED);
    }

    #[test]
    fn names_say_what_they_are_for() {
        let planar = |name| model(name).unwrap().planar();
        assert_eq!(planar("nnunet2d"), Some(true));
        assert_eq!(planar("cicek3d"), Some(false));
        assert_eq!(planar("vnet"), None);
        for name in ["nnunet3d", "resenc3d", "kayalibay3d", "isensee3d"] {
            let refused = check_dimensions(name, true, "these are slices").unwrap_err();
            let other = name.replace("3d", "2d");
            assert!(refused.to_string().contains(&format!("take `{other}`")));
            check_dimensions(&other, true, "these are slices").unwrap();
            check_dimensions(name, false, "these are volumes").unwrap();
            assert!(check_dimensions(&other, false, "these are volumes").is_err());
        }
        check_dimensions("vnet", true, "").unwrap();
        check_dimensions("vnet", false, "").unwrap();
    }
}
