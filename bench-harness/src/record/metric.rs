//! Metrics that the summary or the reports treat by name. All others are shown as they are.

/// Start to the first byte of output.
pub const READY: &str = "ready_ns";
/// Start to the instance being gone and its exit status known.
pub const EXIT: &str = "exit_ns";
/// The workload's end to nothing of the instance being left.
pub const TEARDOWN: &str = "teardown_ns";
/// What a named phase of the start begins with: `phase.clone_ns`.
pub const PHASE_PREFIX: &str = "phase.";
/// Proportional set size of all processes of an instance.
pub const PSS: &str = "pss_bytes";
/// Unique set size of all processes of an instance.
pub const USS: &str = "uss_bytes";
/// Resident set size of all processes of an instance.
pub const RSS: &str = "rss_bytes";
/// Memory charged to an instance's cgroup.
pub const CGROUP: &str = "cgroup_bytes";
/// What a guest has touched of the memory of its machine, resident on the host.
pub const GUEST_RAM: &str = "guest_ram_bytes";
/// The rest of a machine's monitor: the proportional set size of everything but the guest's memory.
pub const MONITOR: &str = "monitor_bytes";
/// Memory of the host in use while `iteration` instances run (0: none yet): the points of one curve a block.
///
/// The points are the observations; [`MARGINAL`] is computed from them.
pub const HOST_USED: &str = "host_used_bytes";
/// Slope of [`HOST_USED`] over the number of running instances.
pub const MARGINAL: &str = "marginal_bytes";
/// Memory that the kernel itself keeps (slab, kernel stacks, page tables, per-CPU memory) while `iteration` instances run:
/// the points of one curve a block, of which [`KERNEL`] is computed.
pub const KERNEL_USED: &str = "kernel_used_bytes";
/// Slope of [`KERNEL_USED`] over the number of running instances.
pub const KERNEL: &str = "kernel_bytes";
/// Memory of the host in slabs while `iteration` instances run, and its slope.
pub const SLAB_USED: &str = "slab_used_bytes";
/// Slope of [`SLAB_USED`].
pub const SLAB: &str = "slab_bytes";
/// Memory of the host in page tables while `iteration` instances run.
pub const PAGE_TABLES_USED: &str = "page_tables_used_bytes";
/// Slope of [`PAGE_TABLES_USED`].
pub const PAGE_TABLES: &str = "page_tables_bytes";
/// Sum of the proportional set sizes of `iteration` instances.
pub const PSS_TOTAL: &str = "pss_total_bytes";
/// Slope of [`PSS_TOTAL`].
pub const PSS_EACH: &str = "pss_each_bytes";
/// Sum of what is charged to the groups of `iteration` instances.
pub const CGROUP_TOTAL: &str = "cgroup_total_bytes";
/// Slope of [`CGROUP_TOTAL`].
pub const CGROUP_EACH: &str = "cgroup_each_bytes";
/// Memory that was available before the first instance of a round.
pub const AVAILABLE: &str = "available_bytes";
/// Instances of a round; `detail` says why no more.
pub const REACHED: &str = "reached_instances";
/// [`AVAILABLE`] over [`MARGINAL`]: how many instances would fill the host. An estimate, and called one.
pub const FULL_AT: &str = "full_at_estimate";
/// The most that one instance had resident since its program began.
pub const PEAK_RSS: &str = "peak_rss_bytes";
/// The most that was charged to its group.
pub const PEAK_CGROUP: &str = "peak_cgroup_bytes";
/// Pages that two instances have in common.
pub const SHARED: &str = "shared_bytes";
/// The part of [`SHARED`] that is page cache.
pub const SHARED_CACHE: &str = "shared_cache_bytes";
/// Pages of two instances that KSM has merged.
pub const SHARED_KSM: &str = "shared_ksm_bytes";
/// CPU time that the kernel's own threads used for so long after an instance was gone.
pub const DEFERRED: &str = "deferred_cpu_ns";
/// From an instance being gone until half of [`DEFERRED`] was used.
pub const DEFERRED_HALF: &str = "deferred_half_ns";
/// What the metrics of many instances started at once begin with, before their number: `at_once_64.ready_ns`.
pub const AT_ONCE_PREFIX: &str = "at_once_";
/// 99th percentile of [`READY`] within one batch.
pub const READY_P99: &str = "ready_p99_ns";
/// Instances of a batch over the time until the last of them is gone.
pub const RATE: &str = "rate";
/// The time until the last of a batch is gone, over its instances and times the CPUs: what one takes of a CPU.
pub const SHARE: &str = "share_ns";
/// What the metrics begin with that are differences of a rung of a ladder to another one: `layer.ready_ns`.
pub const LAYER_PREFIX: &str = "layer.";
/// Time of one operation, measured by the workload.
pub const TIME_PER_OP: &str = "time_per_op_ns";
/// Time between the workload's begin and end marks, measured by the host.
pub const HOST_WALL: &str = "host_wall_ns";
/// In the experiment [`super::HARNESS`]: what the harness itself spends inside one measured window.
pub const WINDOW_COST: &str = "window_cost_ns";
/// In the experiment [`super::HARNESS`]: smallest step of the host's clock that was seen.
pub const CLOCK_STEP: &str = "clock_step_ns";

/// Metrics that are points of a curve, and those that are its slope.
pub const CURVES: [(&str, &str); 6] = [
    (HOST_USED, MARGINAL),
    (KERNEL_USED, KERNEL),
    (SLAB_USED, SLAB),
    (PAGE_TABLES_USED, PAGE_TABLES),
    (PSS_TOTAL, PSS_EACH),
    (CGROUP_TOTAL, CGROUP_EACH),
];

/// The name of a metric of so many instances started at once.
pub fn at_once(instances: u32, name: &str) -> String {
    format!("{AT_ONCE_PREFIX}{instances}.{name}")
}

/// The number of instances and the metric of one of them.
pub fn of_at_once(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(AT_ONCE_PREFIX)?.split_once('.')
}

/// The slope that a metric is a point for.
pub fn slope_of(name: &str) -> Option<&'static str> {
    CURVES.iter().find(|(points, _)| *points == name).map(|(_, slope)| *slope)
}

/// Different system calls of the host that all processes of an instance made.
pub const SYSTEM_CALLS: &str = "system_calls";
/// How many calls those were.
pub const SYSTEM_CALLS_MADE: &str = "system_calls_made";
/// Those of [`SYSTEM_CALLS`] that were made once the program ran.
pub const SYSTEM_CALLS_RUNNING: &str = "system_calls_running";
/// How many calls the process made that started the instance.
pub const SYSTEM_CALLS_STARTER: &str = "system_calls_starter";
/// What the number of one system call begins with: `call.mmap`. `iteration` is 0 for those that set the instance up,
/// 1 for those that were made once the program ran.
pub const CALL_PREFIX: &str = "call.";
/// Different functions of the host's kernel that all processes of an instance entered.
pub const FUNCTIONS: &str = "kernel_functions";
/// What the number of one function begins with: `function.vfs_read`.
pub const FUNCTION_PREFIX: &str = "function.";
/// What a probe from inside begins with: `probe.mount`. 1 where it reaches the host; `detail` says what was seen.
pub const PROBE_PREFIX: &str = "probe.";

/// Median over the repetitions of one launch of a victim.
pub const BESIDE_MEDIAN: &str = "op_median_ns";
/// 99th percentile over the same.
pub const BESIDE_P99: &str = "op_p99_ns";
/// What the metrics begin with that are ratios of a victim beside an aggressor to it alone: `slowdown.op_median_ns`.
pub const SLOWDOWN_PREFIX: &str = "slowdown.";
/// The most memory that one aggressor used at a time.
pub const AGGRESSOR_MEMORY: &str = "aggressor_memory_bytes";
/// The most processes that it had.
pub const AGGRESSOR_PROCESSES: &str = "aggressor_processes";
/// Its CPU time over elapsed time.
pub const AGGRESSOR_CPU: &str = "aggressor_cpu";
/// How often its limits refused what it asked for.
pub const AGGRESSOR_REFUSED: &str = "aggressor_refused";

/// Whether it is one of a set, which tables of figures would drown in: it is kept and enters no summary.
#[must_use]
pub fn is_of_set(name: &str) -> bool {
    [CALL_PREFIX, FUNCTION_PREFIX, PROBE_PREFIX].iter().any(|prefix| name.starts_with(prefix))
}

/// The metric whose row stands for a whole launch that failed or was skipped.
pub fn main_of(experiment: &str) -> &'static str {
    match experiment {
        "memory" => PSS,
        super::DENSITY => HOST_USED,
        "overhead" => TIME_PER_OP,
        "surface" => SYSTEM_CALLS,
        super::NEIGHBOURS => BESIDE_MEDIAN,
        super::HARNESS => WINDOW_COST,
        _ => READY,
    }
}
