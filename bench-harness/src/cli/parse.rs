//! From arguments to a [`Command`], without paying for more of clap than a call needs.

use std::ffi::OsString;

use clap::{Args as _, CommandFactory as _, FromArgMatches as _};

use super::{Cli, Command, KernelOptions, RUN_HELP, RunArgs, seconds};
use crate::container_options::ContainerOptions;
use crate::target::TargetKind;

/// Parses the command line (without the program's own name), or says how it should have been.
///
/// # Errors
/// Clap's own, which knows how to print itself; a request for help or for the version is one, too.
pub fn parse(args: Vec<OsString>) -> Result<Command, clap::Error> {
    if let Some(plain) = plain_run(&args) {
        return Ok(Command::Run(plain));
    }
    if args.first().is_some_and(|first| first == "run") {
        let command = RunArgs::augment_args(clap::Command::new("run"))
            .bin_name("bench-harness run")
            .about("Run any static program once in a target, as if it had been called directly")
            .after_help(RUN_HELP)
            .max_term_width(100);
        if !are_known(&command, &args) {
            let command = ContainerOptions::augment_args(command);
            // An image brings a program.
            let command = command.mut_arg("program", |program| program.required(false));
            let mut matches = command.try_get_matches_from(args)?;
            let container = ContainerOptions::from_arg_matches_mut(&mut matches)?;
            let mut run = RunArgs::from_arg_matches_mut(&mut matches)?;
            run.container = Some(Box::new(container));
            return Ok(Command::Run(run));
        }
        let mut matches = command.try_get_matches_from(args)?;
        return RunArgs::from_arg_matches_mut(&mut matches).map(Command::Run);
    }
    let argv = std::iter::once(OsString::from("bench-harness")).chain(args);
    let mut matches = Cli::command().try_get_matches_from(argv)?;
    Cli::from_arg_matches_mut(&mut matches).map(|cli| cli.command)
}

/// The arguments of `run` in their plain spelling: `run --OPTION VALUE ... -- PROGRAM ...`. Everything else, and everything
/// that is wrong, is left to clap, which also finds the words for it.
///
/// Clap's description of this one sub-command and its parsing cost as much as the start of a small program.
fn plain_run(args: &[OsString]) -> Option<RunArgs> {
    let (command, mut rest) = args.split_first()?;
    if command != "run" {
        return None;
    }
    let (mut target, mut mem, mut timeout, mut timings, mut file) = (None, None, None, None, Vec::new());
    let mut container = None::<Box<ContainerOptions>>;
    loop {
        let (option, after) = rest.split_first()?;
        let option = option.to_str()?;
        if option == "--" {
            let program = after.to_vec();
            return (!program.is_empty()).then_some(RunArgs {
                guest: KernelOptions::default(),
                console: false,
                target: target?,
                mem,
                timeout,
                timings,
                file,
                program,
                container,
            });
        }
        if option == "--init" {
            // The one that takes no value; twice is wrong.
            let init = &mut container.get_or_insert_default().init;
            if std::mem::replace(init, true) {
                return None;
            }
            rest = after;
            continue;
        }
        let (value, after) = after.split_first()?;
        let text = value.to_str();
        // What begins like an option is none of the values that are plain; clap knows when it is one after all.
        if text.is_none_or(|text| text.is_empty() || text.starts_with('-')) {
            return None;
        }
        match option {
            "--target" if target.is_none() => target = Some(TargetKind::from_name(text?)?),
            "--mem" if mem.is_none() => mem = Some(text?.parse().ok()?),
            "--timeout" if timeout.is_none() => timeout = Some(seconds(text?).ok()?),
            "--timings" if timings.is_none() => timings = Some(value.into()),
            "--file" => file.push(value.clone()),
            _ => container.get_or_insert_default().set_plain(option, text?)?,
        }
        rest = after;
    }
}

/// Whether all options among the arguments are the command's own.
fn are_known(command: &clap::Command, args: &[OsString]) -> bool {
    let options = args.iter().skip(1).filter_map(|arg| arg.to_str()).take_while(|arg| *arg != "--");
    let mut names =
        options.filter_map(|arg| arg.strip_prefix('-')).map(|arg| arg.strip_prefix('-').unwrap_or(arg));
    names.all(|name| {
        let name = name.split('=').next();
        command.get_arguments().any(|known| known.get_long() == name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn by_clap(line: &str) -> Result<RunArgs, clap::Error> {
        let command = RunArgs::augment_args(clap::Command::new("run"));
        let command =
            ContainerOptions::augment_args(command).mut_arg("program", |program| program.required(false));
        let mut matches = command.try_get_matches_from(words(line))?;
        let container = ContainerOptions::from_arg_matches_mut(&mut matches)?;
        let run = RunArgs::from_arg_matches_mut(&mut matches)?;
        Ok(RunArgs { container: Some(Box::new(container)), ..run })
    }

    #[test]
    fn what_is_plain_is_understood_as_clap_does() {
        for options in [
            "--rootfs /a --init --mem 64 --cpus 1.5 --pids 64 --network loopback",
            "--network veth=10.1.0.2/24,10.1.0.1/24 --hostname box --workdir /w --user 7:8 --timeout 3",
            "--bind /a:/b:ro --bind /c:/d --env A=1 --env B=2=3 --file /x:/y",
            "--network host",
        ] {
            let line = format!("run --target container {options} -- program --rootfs");
            let plain = plain_run(&words(&line)).unwrap_or_else(|| panic!("{line} is plain"));
            let clap = by_clap(&line).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(format!("{plain:?}"), format!("{clap:?}"));
        }
    }

    #[test]
    fn what_is_wrong_or_seldom_is_left_to_clap() {
        for options in [
            "--init --init",
            "--rootfs /a --rootfs /b",
            "--pids many",
            "--cpus 0",
            "--network moon",
            "--env A",
            "--user root",
            "--rootfs ",
            "--rootfs=/a",
            "--detach",
            "--unknown 1",
        ] {
            let line = format!("run --target container {options} -- program");
            assert!(plain_run(&words(&line)).is_none(), "{line}");
        }
    }
}
