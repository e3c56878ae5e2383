//! Network addresses as text: `host:port`.

use std::fmt;

use thiserror::Error;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name, an address (IPv6 without brackets), or empty: every address when listening, this
    /// machine when connecting.
    pub host: String,
    /// The port.
    pub port: Port,
}

/// A port of TCP or UDP.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Port {
    /// By number; 0 lets the system choose when listening.
    Number(u16),
    /// By the name that the system knows it by, such as `https`.
    Service(String),
}

/// A text that is no `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum AddressError {
    #[error("the port is missing")]
    MissingPort,
    #[error("too many colons")]
    TooManyColons,
    #[error("brackets do not fit")]
    Brackets,
    #[error("port {0} is larger than 65535")]
    PortTooLarge(String),
    #[error("the port has to be a number")]
    BadPort,
}

impl HostPort {
    /// The host ends at the last colon; an IPv6 address has to be in brackets.
    pub(crate) fn parse(text: &str) -> Result<Self, AddressError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or(AddressError::Brackets)?;
                (host, after.strip_prefix(':').ok_or(AddressError::MissingPort)?)
            }
            None => text.rsplit_once(':').ok_or(AddressError::MissingPort)?,
        };
        if port.contains(':') || !text.starts_with('[') && host.contains(':') {
            return Err(AddressError::TooManyColons);
        }
        if host.contains(['[', ']']) || port.contains(['[', ']']) {
            return Err(AddressError::Brackets);
        }
        Ok(Self { host: host.to_owned(), port: Port::parse(port)? })
    }
}

impl Port {
    fn parse(text: &str) -> Result<Self, AddressError> {
        match text {
            "" => Ok(Port::Number(0)),
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
                .parse()
                .map(Port::Number)
                .map_err(|_| AddressError::PortTooLarge(digits.chars().take(20).collect())),
            name if name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) =>
            {
                Ok(Port::Service(name.to_owned()))
            }
            _ => Err(AddressError::BadPort),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Port::Number(number) => number.fmt(f),
            Port::Service(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_at_the_port() {
        for (text, host, port) in [
            ("host:8888", "host", Port::Number(8888)),
            (":8888", "", Port::Number(8888)),
            ("[::1]:1", "::1", Port::Number(1)),
            ("[fe80::1%eth0]:1", "fe80::1%eth0", Port::Number(1)),
            ("[host]:1", "host", Port::Number(1)),
            ("host:", "host", Port::Number(0)),
            (":", "", Port::Number(0)),
            ("host:https", "host", Port::Service("https".to_owned())),
        ] {
            assert_eq!(HostPort::parse(text), Ok(HostPort { host: host.to_owned(), port }), "{text}");
        }
        for text in ["host:8888", ":1", "[::1]:1", "host:https"] {
            assert_eq!(HostPort::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (text, error) in [
            ("", AddressError::MissingPort),
            ("host", AddressError::MissingPort),
            ("[::1]", AddressError::MissingPort),
            ("::1", AddressError::TooManyColons),
            ("a:1:2", AddressError::TooManyColons),
            ("[::1]:1:2", AddressError::TooManyColons),
            ("[::1", AddressError::Brackets),
            ("a]:1", AddressError::Brackets),
            ("a:65536", AddressError::PortTooLarge("65536".to_owned())),
            ("a:-1", AddressError::BadPort),
            ("a:8 8", AddressError::BadPort),
        ] {
            assert_eq!(HostPort::parse(text), Err(error), "{text}");
        }
    }
}
