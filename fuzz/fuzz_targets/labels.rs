//! Parsers of foreign text: the label of the owner, the kernel's description of a process, and names of images.
#![no_main]

use dockerpool::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(owner) = fuzzing::owner(text) {
        // An owner has four parts, and none of them is empty. Numbers may have leading zeros or a sign.
        assert_eq!(owner.split('.').count(), 4);
        assert!(owner.split('.').all(|part| !part.is_empty()));
        assert!(owner.len() <= text.len());
    }
    fuzzing::stat(text);
    if let Some((registry, tag, digest)) = fuzzing::reference(text) {
        assert!(text.is_ascii() && !text.contains(char::is_whitespace));
        assert!(registry == "docker.io" || text.starts_with(&registry));
        // Tag and digest stand after the name.
        let mut end = String::new();
        for (mark, part) in [(':', tag), ('@', digest)] {
            end.extend(part.map(|part| format!("{mark}{part}")));
        }
        assert!(text.ends_with(&end) && text.len() > end.len());
    }
});
