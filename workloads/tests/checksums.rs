//! The catalogue and the program agree: same names, same checksums, for any number of iterations.

mod common;

use common::echoing;
use workload_program::Work;
use workload_real::net_echo::{self, NetEcho};
use workloads::{Program, Workload, catalogue};

/// The workload in this process. The one that makes a process of its own is none for a test with several threads:
/// `program.rs` runs it as it is.
fn prepare(workload: &Workload) -> Option<Box<dyn Work>> {
    let prepare = match workload.program {
        _ if workload.needs.network => return Some(Box::new(NetEcho::to(&echoing()).expect(workload.name))),
        Program::Core => workload_program::prepare,
        Program::Real => workload_real::prepare,
    };
    (workload.name != "key-value").then(|| prepare(workload.name).expect(workload.name))
}

#[test]
fn the_server_is_named_by_the_variable_that_the_program_looks_for() {
    assert_eq!(workloads::SERVER, net_echo::SERVER);
}

#[test]
fn the_catalogue_lists_what_the_programs_know() {
    let listed: Vec<&str> = catalogue::all().iter().map(|workload| workload.name).collect();
    assert_eq!(listed, [&workload_program::NAMES[..], &workload_real::NAMES].concat());
}

#[test]
fn every_workload_comes_to_its_checksum_whatever_the_number_of_iterations() {
    for workload in catalogue::all() {
        let Some(mut work) = prepare(workload) else { continue };
        for iterations in [1, 2, 3] {
            let check = format!("{:016x}", work.repeat(iterations));
            assert_eq!(check, workload.expected_check, "{} x {iterations}", workload.name);
        }
    }
}

#[test]
fn every_workload_has_the_operations_and_figures_that_the_catalogue_names() {
    for workload in catalogue::all() {
        let Some(mut work) = prepare(workload) else { continue };
        assert_eq!(work.operations(), workload.operations_per_iteration, "{}", workload.name);
        work.repeat(1);
        let mut figures = Vec::new();
        work.figures(1, 1000, &mut |(name, unit, value)| {
            assert!(value.is_finite() && value >= 0.0, "{} {name} {value}", workload.name);
            figures.push((name, unit));
        });
        assert_eq!(figures, workload.figures, "{}", workload.name);
    }
}
