//! Which program this is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The answer to `/version`. The keys are zrepl's, where they speak of Go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Version of zrepl.
    #[serde(rename = "Version")]
    pub version: String,
    /// Version of the compiler.
    #[serde(rename = "RuntimeGo")]
    pub runtime: String,
    /// Operating system.
    #[serde(rename = "RuntimeGOOS")]
    pub os: String,
    /// Processor architecture.
    #[serde(rename = "RuntimeGOARCH")]
    pub arch: String,
    /// Compiler.
    #[serde(rename = "RUNTIMECompiler")]
    pub compiler: String,
}

impl Version {
    /// This program's.
    pub fn own() -> Version {
        Version {
            version: crate::VERSION.to_owned(),
            runtime: env!("ZREPL_RUSTC_VERSION").to_owned(),
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            compiler: "rustc".to_owned(),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version { version, runtime, os, arch, compiler } = self;
        write!(f, "zrepl version={version} go={runtime} GOOS={os} GOARCH={arch} Compiler={compiler}")
    }
}
