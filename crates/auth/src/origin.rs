//! Where a URL leads, read so strictly that no browser reads it otherwise.

/// Scheme, host and port of an `http` or `https` URL, in lower case and without the scheme's own port; `None` for
/// everything that is not plainly one: other schemes, credentials, characters that have to be encoded.
pub fn url_origin(url: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    if !url.bytes().all(plain) {
        return None;
    }
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let own_port = match scheme.as_str() {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest[..end].to_ascii_lowercase();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority.as_str(), None),
    };
    let name = |host: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        !host.is_empty() && host.bytes().all(fits)
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_fits = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name(host),
    };
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if !host_fits || !port_fits {
        return None;
    }
    let origin = format!("{scheme}://{authority}");
    Some(origin.strip_suffix(own_port).map(str::to_owned).unwrap_or(origin))
}

/// Whether secrets may be sent to that URL: it is `https`, or on this machine.
pub fn is_safe_endpoint(url: &str) -> bool {
    let Some(origin) = url_origin(url) else {
        return false;
    };
    let here = ["http://localhost", "http://127.0.0.1", "http://[::1]"];
    let is_here = here.iter().any(|start| {
        origin
            .strip_prefix(start)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    });
    !url.contains('#') && (origin.starts_with("https://") || is_here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_as_browsers_read_them_or_not_at_all() {
        let check = |url: &str, expected: Option<&str>| {
            assert_eq!(url_origin(url).as_deref(), expected, "{url}");
        };
        check("https://app.example.com", Some("https://app.example.com"));
        check(
            "HTTPS://App.Example.com:443/a?b#c",
            Some("https://app.example.com"),
        );
        check("http://localhost:5173/x", Some("http://localhost:5173"));
        check("http://[::1]:80/", Some("http://[::1]"));
        for url in [
            "",
            "app.example.com",
            "//app.example.com",
            "javascript://app.example.com/%0aalert(1)",
            "https://",
            "https://app.example.com@evil.example",
            "https://app.example.com\\@evil.example",
            "https://evil.example\\.app.example.com",
            "https://app.example.com%2f@evil.example",
            "https://app.example.com:0",
            "https://app.example.com:443:443",
            "https://app example.com",
            "https://äpp.example.com",
            "https://app.example.com/\r\nSet-Cookie: a=b",
            "https://[evil]/",
        ] {
            check(url, None);
        }
    }

    #[test]
    fn secrets_go_to_encrypted_endpoints_or_to_this_machine() {
        for (url, expected) in [
            ("https://id.example.com/token", true),
            ("http://localhost:8080/token", true),
            ("http://127.0.0.1:8080", true),
            ("http://localhost.evil.example/token", false),
            ("http://id.example.com/token", false),
            ("https://id.example.com/#", false),
        ] {
            assert_eq!(is_safe_endpoint(url), expected, "{url}");
        }
    }
}
