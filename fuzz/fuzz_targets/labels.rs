//! Text that others wrote: whose a container is, what the kernel says of a process, and the names of images.
#![no_main]

use dockerpool::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(owner) = fuzzing::owner(text) {
        // Four parts, none of them empty; a number may have been written with zeros or a sign before it.
        assert_eq!(owner.split('.').count(), 4);
        assert!(owner.split('.').all(|part| !part.is_empty()));
        assert!(owner.len() <= text.len());
    }
    fuzzing::stat(text);
    if let Some((registry, tag, digest)) = fuzzing::reference(text) {
        assert!(text.is_ascii() && !text.contains(char::is_whitespace));
        assert!(registry == "docker.io" || text.starts_with(&registry));
        // What follows the name is what was written.
        let mut end = String::new();
        for (mark, part) in [(':', tag), ('@', digest)] {
            end.extend(part.map(|part| format!("{mark}{part}")));
        }
        assert!(text.ends_with(&end) && text.len() > end.len());
    }
});
