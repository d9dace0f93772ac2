//! The kernel's command line.

use super::error::LinuxError;
use super::layout::{DEVICES, LINES};
use super::virtio;

/// Path of our init: none that a root file system of the user's has, too.
pub const INIT: &str = "/.bench-init";

/// COMMAND_LINE_SIZE of x86 (arch/x86/include/asm/setup.h), its final zero byte included.
pub const LIMIT: usize = 2048;

/// What every boot is told. Each word of it saves time or makes an end an end:
///
/// * `reboot=t`: a triple fault, which is an exit; the other ways try a keyboard controller first
/// * `panic=-1`: a panic reboots at once
/// * `earlyprintk`: what the kernel has to say goes to a port, one exit a byte, without a driver that is probed; `keep`
///   because a stock kernel has another console, which nobody sees
/// * `8250.nr_uarts=0`: and no driver looks for that port
/// * `pci=off`: there is none; looking for it costs exits
/// * `nokaslr`: no search for a random place, no relocations to apply
/// * `cryptomgr.notests`: a stock kernel checks its ciphers at every start
/// * `noreplace-smp`: a kernel that finds one processor only writes over the lock prefixes of atomic instructions, in nearly every page
///   of its code, and each of these pages is the instance's own then; the price is a prefix that stays, as with more processors
const BASE: &str = "reboot=t panic=-1 earlyprintk=ttyS0,115200,keep 8250.nr_uarts=0 pci=off nokaslr cryptomgr.notests noreplace-smp";
/// The archive stays where it is: a kernel that takes its memory back writes over all of it first, and each page of it is the
/// instance's own then, used or not. Not for an archive that is a whole root.
const RETAIN: &str = " retain_initrd";

/// Puts the line together: ours, whether the archive is left where it is, the rate of the time stamp counter (kHz) where it is known, where
/// so many devices are, then `extra`, which can override it.
///
/// With the rate a kernel without KVM's clock has nothing to measure it against, and needs no interrupt of the timer chip.
///
/// # Errors
/// It is too long, or `extra` holds what is no part of a line.
pub fn build(
    console: bool,
    retain: bool,
    tsc_khz: Option<u32>,
    devices: usize,
    extra: &str,
) -> Result<String, LinuxError> {
    for character in extra.chars() {
        if character.is_control() {
            return Err(LinuxError::CommandLineControl { character });
        }
        if !character.is_ascii() {
            return Err(LinuxError::CommandLineNotAscii { character });
        }
    }
    // Without a console only what is wrong is printed. First, since the early console begins to print once it is named.
    let loudness = if console { "ignore_loglevel" } else { "quiet" };
    let mut line = format!("{loudness} {BASE} rdinit={INIT}");
    if retain {
        line.push_str(RETAIN);
    }
    if let Some(khz) = tsc_khz {
        line.push_str(&format!(" tsc_early_khz={khz}"));
    }
    for (line_number, slot) in LINES.iter().zip(0..).take(devices) {
        let address = DEVICES + slot * virtio::mmio::SIZE;
        line.push_str(&format!(" virtio_mmio.device=4K@{address:#x}:{line_number}"));
    }
    if !extra.is_empty() {
        line.push(' ');
        line.push_str(extra);
    }
    let size = line.len() + 1;
    if size > LIMIT {
        return Err(LinuxError::CommandLineTooLong { size, limit: LIMIT });
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_quiet_unless_the_console_is_asked_for() {
        assert!(build(false, false, None, 0, "").unwrap().starts_with("quiet "));
        assert!(!build(true, false, None, 0, "").unwrap().contains("quiet"));
    }

    #[test]
    fn an_archive_is_kept_where_that_is_said() {
        assert!(build(false, true, None, 0, "").unwrap().ends_with(" retain_initrd"));
        assert!(!build(false, false, None, 0, "").unwrap().contains("retain_initrd"));
    }

    #[test]
    fn the_rate_of_the_counter_is_told_where_it_is_known() {
        assert!(build(false, false, Some(2_400_000), 0, "").unwrap().ends_with(" tsc_early_khz=2400000"));
        assert!(!build(false, false, None, 0, "").unwrap().contains("tsc_early_khz"));
    }

    #[test]
    fn what_the_user_adds_comes_last() {
        assert!(build(false, false, None, 0, "panic=5 nosmp").unwrap().ends_with(" panic=5 nosmp"));
    }

    #[test]
    fn a_line_may_be_as_long_as_the_kernel_reads_and_no_longer() {
        let room = LIMIT - 1 - build(false, false, None, 0, "x").unwrap().len() + 1;
        assert_eq!(build(false, false, None, 0, &"x".repeat(room)).unwrap().len(), LIMIT - 1);
        let error = build(false, false, None, 0, &"x".repeat(room + 1)).unwrap_err();
        assert_eq!(error.to_string(), "the kernel's command line takes 2049 bytes, at most 2048 fit");
    }

    #[test]
    fn every_device_is_named_with_its_place_and_its_line() {
        let line = build(false, false, None, 2, "").unwrap();
        assert!(
            line.contains(" virtio_mmio.device=4K@0xd0100000:5 virtio_mmio.device=4K@0xd0101000:6"),
            "{line}"
        );
    }

    #[test]
    fn control_characters_are_refused() {
        for bad in ["a\nb", "a\0", "\u{7f}", "\tx"] {
            assert!(
                matches!(build(false, false, None, 0, bad), Err(LinuxError::CommandLineControl { .. })),
                "{bad:?}"
            );
        }
        assert!(matches!(
            build(false, false, None, 0, "ü"),
            Err(LinuxError::CommandLineNotAscii { character: 'ü' })
        ));
    }
}
