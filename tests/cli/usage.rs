//! Help, flags that do not exist, pipes that nobody reads.

use std::process::Stdio;

use voxseg::ops::VARIANTS;

use crate::harness::{Block, Folder, Run, voxseg};

/// The verbs that `voxseg --help` lists.
fn verbs() -> Vec<String> {
    let help = Run::of(voxseg().arg("--help")).succeeded().stdout;
    let commands = help.lines().skip_while(|l| *l != "Commands:").skip(1);
    let words = commands
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    words.filter(|w| *w != "help").map(str::to_owned).collect()
}

#[test]
fn the_help_of_every_verb_has_an_example() {
    let verbs = verbs();
    for known in ["devices", "evaluate", "inspect"] {
        assert!(verbs.iter().any(|verb| verb == known), "{verbs:?}");
    }
    for verb in verbs {
        let help = Run::of(voxseg().args([&verb, "--help"])).succeeded().stdout;
        let example = format!("Examples:\n  voxseg {verb}");
        assert!(help.contains(&example), "{help}");
    }
}

/// The verbs, those of `classify` among them, as arguments.
fn all_verbs() -> Vec<Vec<String>> {
    let classify = ["train", "predict"].map(|verb| vec!["classify".to_owned(), verb.to_owned()]);
    let verbs = verbs().into_iter().map(|verb| vec![verb]);
    verbs.chain(classify).collect()
}

#[test]
fn paragraphs_below_the_examples_are_wrapped_once() {
    for verb in all_verbs() {
        let help = Run::of(voxseg().args(&verb).arg("-h")).succeeded().stdout;
        let (_, epilogue) = help.split_once("\nExamples:\n").expect("examples");
        let lines: Vec<&str> = epilogue.lines().collect();
        for pair in lines.windows(2) {
            let is_text = |line: &str| !line.is_empty() && !line.starts_with(' ');
            if !is_text(pair[0]) || !is_text(pair[1]) {
                assert!(
                    pair[0].chars().count() <= 100,
                    "{verb:?}: the example `{}`",
                    pair[0]
                );
                continue;
            }
            let word = pair[1].split(' ').next().unwrap_or_default();
            let together = pair[0].chars().count() + 1 + word.chars().count();
            assert!(
                together > 100,
                "{verb:?}: `{word}` fits behind `{}`",
                pair[0]
            );
        }
        // What clap wraps of an example would stand as text below it.
        let wrapped = lines.windows(2).find(|pair| {
            pair[0].starts_with("  voxseg") && !pair[1].is_empty() && !pair[1].starts_with(' ')
        });
        assert!(wrapped.is_none(), "{verb:?}: {wrapped:?}");
    }
}

#[test]
fn unknown_flags_and_verbs_are_the_users_fault() {
    Run::of(voxseg().args(["devices", "--no-such-flag"])).refused(&["--no-such-flag"]);
    Run::of(voxseg().arg("segment")).refused(&["segment"]);
    Run::of(voxseg().args(["devices", "--variant", "conv"])).refused(&["FAMILY=VARIANT"]);
    let known = VARIANTS.map(|(family, names)| format!("{family}={}", names.join("|")));
    for unknown in ["convv=naive", "conv=foo", "conv=tiled", "matmul="] {
        let run = Run::of(voxseg().args(["devices", "--variant", unknown]));
        let listed = known.iter().map(String::as_str);
        run.refused(&listed.chain([unknown]).collect::<Vec<_>>());
    }
    for (family, names) in VARIANTS {
        let variant = format!("{family}={}", names[0]);
        Run::of(voxseg().args(["devices", "--variant", &variant])).succeeded();
    }
    let run = Run::of(voxseg().args(["train", "--json", "--no-such-flag"]));
    assert_eq!(run.code, Some(2), "{run:#?}");
    let document = run.json();
    let text = document["error"].as_str().expect("a text");
    assert!(text.starts_with("unexpected argument"), "{text}");
    assert_eq!(document["exit_code"], 2);
    let bare = Run::of(&mut voxseg());
    assert_eq!(bare.code, Some(2));
    assert!(bare.stderr.contains("Usage:"), "{bare:#?}");
}

#[test]
fn version_and_help_go_to_stdout() {
    let version = Run::of(voxseg().arg("--version")).succeeded();
    assert_eq!(
        version.stdout.trim(),
        format!("voxseg {}", env!("CARGO_PKG_VERSION"))
    );
    assert!(version.stderr.is_empty());
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let folder = Folder::new();
    let block = [Block(1, [1, 1, 1], [3, 3, 3])];
    folder.labels("truth/a.nii.gz", &block);
    folder.labels("pred/a.nii.gz", &block);
    let evaluations: [&[&str]; 4] = [
        &["evaluate", "pred", "truth"],
        &["evaluate", "pred", "truth", "--json"],
        &["evaluate", "pred", "nowhere", "--json"],
        &["evaluate", "--help"],
    ];
    for arguments in evaluations {
        let mut command = voxseg();
        command.args(arguments).current_dir(folder.root());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        drop(child.stdout.take());
        drop(child.stderr.take());
        let code = child.wait().expect("it ends").code();
        let expected = if arguments.contains(&"nowhere") { 2 } else { 0 };
        assert_eq!(code, Some(expected), "{arguments:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let folder = Folder::new();
    let block = [Block(1, [1, 1, 1], [3, 3, 3])];
    folder.labels("truth/a.nii.gz", &block);
    folder.labels("pred/a.nii.gz", &block);
    let network = ["inspect", "--network", "nnunet3d", "--patch", "32,32,32"];
    let results: [&[&str]; 7] = [
        &["evaluate", "pred", "truth"],
        &["evaluate", "pred", "truth", "--json"],
        &["devices"],
        &["devices", "--json"],
        &network,
        &["--version"],
        &["train", "--help"],
    ];
    for arguments in results {
        let mut command = voxseg();
        let full = std::fs::File::create("/dev/full").expect("a device");
        command
            .args(arguments)
            .current_dir(folder.root())
            .stdout(full);
        let output = command.output().expect("the binary starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains("stdout"), "{arguments:?}: {stderr}");
    }
}
