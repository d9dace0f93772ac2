//! `native`: a bare process, started by the same code as the container with every layer of isolation left out.

use std::net::Ipv4Addr;

use super::{Launch, LaunchError, Prepared, SkipReason, Target, TargetKind, container};
use crate::echo::{Echo, Reach};

/// The baseline.
#[derive(Debug, Clone, Copy)]
pub struct Native;

impl Target for Native {
    fn kind(&self) -> TargetKind {
        TargetKind::Native
    }

    fn probe(&self) -> Result<(), SkipReason> {
        Ok(())
    }

    fn prepare(&self, launch: &Launch) -> Result<Box<dyn Prepared>, LaunchError> {
        if !launch.files.is_empty() {
            return Err(LaunchError::Unsupported(
                "a bare process sees the host's files as they are; leave --file out".into(),
            ));
        }
        if !launch.network {
            return container::bare(launch, &[]);
        }
        let echo = Echo::start(Reach::Loopback)?;
        let server = format!("{}:{}", Ipv4Addr::LOCALHOST, echo.port());
        Ok(echo.beside(container::bare(launch, &[(workloads::SERVER, &server)])?))
    }
}
