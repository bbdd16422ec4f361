//! Names of images: `[registry/]path[:tag][@digest]`, by the grammar of the distribution project's `reference` package.

/// The longest name the grammar allows, in bytes.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// The registry of a name without one.
const DEFAULT_REGISTRY: &str = "docker.io";

/// Holds the parts of an image's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    registry: Option<&'a str>,
    pub(crate) tag: Option<&'a str>,
    pub(crate) digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// Splits a name into its parts, or returns the reason why it is invalid.
    pub(crate) fn parse(text: &'a str) -> Result<Self, String> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash is a registry's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if is_registry(first) => (Some(first), path),
            _ => (None, name),
        };

        if name.is_empty() {
            return Err("the name is missing".to_owned());
        }
        if name.len() > MAX_NAME {
            return Err(format!("the name is longer than {MAX_NAME} bytes"));
        }
        if let Some(registry) = registry.filter(|registry| !is_host(registry)) {
            return Err(format!("`{registry}` is not the address of a registry"));
        }
        if let Some(part) = path.split('/').find(|part| !is_path_part(part)) {
            return Err(match part {
                "" => "a part of the name is empty".to_owned(),
                _ => format!(
                    "`{part}` may have only lower case letters, digits, and single `.`, `_`, `__` or `-` between them"
                ),
            });
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(format!("`{tag}` is not a tag"));
        }
        if let Some(digest) = digest.filter(|digest| !is_digest(digest)) {
            return Err(format!(
                "`{digest}` is not a digest, like `sha256:` and 64 lower case hexadecimal digits"
            ));
        }
        Ok(Self { registry, tag, digest })
    }

    /// The registry's `host[:port]`.
    pub(crate) fn registry(&self) -> &'a str {
        self.registry.unwrap_or(DEFAULT_REGISTRY)
    }
}

/// Tells whether the part before the first slash is a registry: it cannot be a path component on the default registry.
fn is_registry(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.contains(|c: char| c.is_ascii_uppercase())
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let host_is_good = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(label),
    };
    host_is_good && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_path_part(part: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separator = |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    part.bytes().next().is_some_and(word)
        && part.bytes().next_back().is_some_and(word)
        && part
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(separator)
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= MAX_TAG
        && !tag.is_empty()
        && !tag.starts_with(['.', '-'])
        && tag
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return false;
    };
    let wanted = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == wanted
        && hex
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn valid_names_are_split() {
        let pinned = format!("[::1]:5000/a/b:1.0@{DIGEST}");
        let pinned_only = format!("python@{DIGEST}");
        let tag = "t".repeat(128);
        let long_tag = format!("a:{tag}");
        for (text, registry, tag, digest) in [
            ("busybox", "docker.io", None, None),
            ("library/busybox:1.36", "docker.io", Some("1.36"), None),
            ("127.0.0.1:5000/busybox", "127.0.0.1:5000", None, None),
            ("localhost/a__b-c.d---e:X_y", "localhost", Some("X_y"), None),
            ("Host/a", "Host", None, None),
            ("ghcr.io/a/b/c:2", "ghcr.io", Some("2"), None),
            (&pinned, "[::1]:5000", Some("1.0"), Some(DIGEST)),
            (&pinned_only, "docker.io", None, Some(DIGEST)),
            (&long_tag, "docker.io", Some(tag.as_str()), None),
            (DIGEST, "docker.io", Some(&DIGEST[7..]), None),
        ] {
            let found = Reference::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
            assert_eq!(
                (found.registry(), found.tag, found.digest),
                (registry, tag, digest),
                "{text}"
            );
        }
    }

    #[test]
    fn invalid_names_are_refused() {
        let long = "a".repeat(256);
        let long_tag = format!("a:{}", "t".repeat(129));
        for text in [
            "",
            ":1",
            "@sha256:00",
            "Busybox",
            "a b",
            "a/",
            "/a",
            "a//b",
            "a:",
            "a:b:c",
            "a:-b",
            "a/B",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a@sha256:00",
            "a@sha1:0123456789abcdef0123456789abcdef01234567",
            "a@latest",
            "ho_st.com/a",
            "host:port/a",
            "host:99999/a",
            "-host.com/a",
            "https://host/a",
            "a:1@",
            "ä",
            long.as_str(),
            long_tag.as_str(),
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }
}
