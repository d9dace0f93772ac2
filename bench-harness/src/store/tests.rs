use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::record::Status;

fn info() -> RunInfo {
    RunInfo { schema: SCHEMA, run_id: "r1".into(), seed: 7, ..RunInfo::default() }
}

fn sample(block: u32, value: f64) -> Sample {
    Sample::ready("native", block, value)
}

fn failed(block: u32, detail: &str) -> Sample {
    Sample { value: None, status: Status::Failed, detail: detail.into(), ..sample(block, 0.0) }
}

fn recorded(samples: &[Sample]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut recording = Recording::create(dir.path(), &info()).expect("an empty folder");
    recording.append(samples).expect("good samples");
    recording.finish(&info()).expect("a writable folder");
    dir
}

/// What the reader says about a recording whose samples.csv was changed by `edit`.
fn complaint(edit: impl FnOnce(String) -> String) -> String {
    let dir = recorded(&[sample(0, 1.0), sample(1, 2.5)]);
    let path = dir.path().join(SAMPLES);
    let text = edit(fs::read_to_string(&path).expect("just written"));
    fs::write(&path, text).expect("own file");
    read(dir.path()).expect_err("a damaged file").to_string()
}

#[test]
fn what_is_recorded_is_read_back() {
    let samples = [sample(0, 0.1 + 0.2), sample(1, 1e-300), failed(2, "said \"no\",\nthen died")];
    let dir = recorded(&samples);
    let (mut found, read_back) = read(dir.path()).expect("own recording");
    let digest = found.digests.samples.take().expect("a finished recording has a digest");
    assert!(digest.len() == 64 && digest.chars().all(|digit| digit.is_ascii_hexdigit()), "{digest}");
    assert_eq!((found, read_back), (info(), samples.to_vec()));
}

#[test]
fn the_header_and_lines_are_those_of_the_design() {
    let dir = recorded(&[sample(3, 5.0), failed(4, "gone")]);
    assert_eq!(
        fs::read_to_string(dir.path().join(SAMPLES)).expect("just written"),
        "schema,run_id,experiment,target,workload,metric,unit,block,order,iteration,value,status,detail\n\
         1,r1,startup,native,noop,ready_ns,ns,3,0,0,5,ok,\n\
         1,r1,startup,native,noop,ready_ns,ns,4,0,0,,failed,gone\n"
    );
}

#[test]
fn a_folder_that_holds_a_recording_is_refused_and_left_as_it_is() {
    let dir = recorded(&[sample(0, 1.0)]);
    let error = Recording::create(dir.path(), &info()).expect_err("it is taken");
    assert!(matches!(error, StoreError::HoldsRecording { found: SAMPLES, .. }));
    assert!(error.to_string().contains("--out"), "{error}");
    assert_eq!(read(dir.path()).expect("untouched").1.len(), 1);
}

#[test]
fn a_folder_with_other_files_is_used() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::write(dir.path().join("notes.txt"), "mine").expect("own folder");
    Recording::create(dir.path(), &info()).expect("nothing in the way");
}

#[test]
fn a_path_that_is_a_file_or_cannot_be_made_is_refused_by_name() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let error = Recording::create(file.path(), &info()).expect_err("a file");
    assert!(matches!(error, StoreError::NotAFolder { .. }));
    let error = Recording::create(&file.path().join("below"), &info()).expect_err("below a file");
    assert!(error.to_string().contains("below"), "{error}");
    let error = Recording::create(Path::new("/proc/nowhere"), &info()).expect_err("not writable");
    assert!(matches!(error, StoreError::CreateFolder { .. }), "{error}");
}

#[test]
fn a_run_that_was_ended_by_force_is_read_up_to_its_last_whole_line() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut recording = Recording::create(dir.path(), &info()).expect("an empty folder");
    recording.append(&[sample(0, 1.0)]).expect("good samples");
    recording.append(&[sample(1, 2.0)]).expect("good samples");
    recording.file.write_all(b"1,r1,startup,nat").expect("own file");
    drop(recording);
    let (info, samples) = read(dir.path()).expect("what was kept");
    assert!(info.interrupted);
    assert_eq!(samples, [sample(0, 1.0), sample(1, 2.0)]);
}

#[test]
fn a_run_that_was_ended_before_its_first_block_is_an_empty_recording() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    drop(Recording::create(dir.path(), &info()).expect("an empty folder"));
    assert_eq!(read(dir.path()).expect("a header and a run.json").1, []);
}

#[test]
fn samples_that_cannot_be_are_not_written() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut recording = Recording::create(dir.path(), &info()).expect("an empty folder");
    for bad in [f64::NAN, f64::INFINITY, -1.0] {
        let error = recording.append(&[sample(0, 1.0), sample(1, bad)]).expect_err("no quantity");
        assert!(matches!(error, StoreError::BadSample { .. }), "{error}");
    }
    let error =
        recording.append(&[Sample { value: None, ..sample(0, 0.0) }]).expect_err("ok without a value");
    assert!(error.to_string().contains("no value"), "{error}");
    recording.finish(&info()).expect("a writable folder");
    assert_eq!(read(dir.path()).expect("own recording").1, []);
}

#[test]
fn the_reader_refuses_damage_and_names_file_line_and_reason() {
    let cases: [(&str, &str, &str); 13] = [
        ("ns,1,0,0,2.5,ok", "ns,1,0,0,NaN,ok", "line 3: the value NaN cannot be"),
        (
            "ns,1,0,0,2.5,ok",
            "ns,1,0,0,1e308,ok",
            "line 3: the value 1e308 cannot be: values are finite, not negative and below 2^53",
        ),
        ("ns,1,0,0,2.5,ok", "ns,1,0,0,inf,ok", "line 3: the value inf cannot be"),
        ("ns,1,0,0,2.5,ok", "ns,1,0,0,-2.5,ok", "line 3: the value -2.5 cannot be"),
        ("ns,1,0,0,2.5,ok", "ns,1,0,0,fast,ok", "line 3: the value \"fast\" is no number"),
        ("ns,1,0,0,2.5,ok", "ns,1,0,0,,ok", "line 3: no value, though the status is ok"),
        ("ns,1,0,0,2.5,ok", "ns,1,0,0,2.5,skipped", "line 3: a value, though the status is skipped"),
        ("ns,1,0,0,2.5,ok", "ns,1,0,0,2.5,fine", "line 3: \"fine\" is no status"),
        ("ns,1,0,0,2.5,ok", "ns,-1,0,0,2.5,ok", "line 3: block is \"-1\""),
        ("ns,1,0,0,2.5,ok", "ns,0,0,0,2.5,ok", "line 3: the same observation as line 2"),
        ("ns,1,0,0,2.5,ok", "us,1,0,0,2.5,ok", "line 3: unit \"us\" in place of \"ns\""),
        (
            "1,r1,startup,native,noop,ready_ns,ns,1",
            "2,r1,startup,native,noop,ready_ns,ns,1",
            "line 3: schema \"2\"",
        ),
        (
            "1,r1,startup,native,noop,ready_ns,ns,1",
            "1,r2,startup,native,noop,ready_ns,ns,1",
            "line 3: run \"r2\"",
        ),
    ];
    for (from, to, expected) in cases {
        let text = complaint(|text| text.replace(from, to));
        assert!(text.contains(expected), "{to}: {text}");
        assert!(text.contains(SAMPLES), "{text}");
        assert!(text.contains("restore the file"), "{text}");
    }
}

#[test]
fn the_reader_refuses_lines_that_were_cut() {
    assert!(complaint(|text| text.trim_end().to_owned()).contains("line 3: the file ends in the middle"));
    assert!(complaint(|text| text[..text.len() - 20].to_owned()).contains("line 3: "));
    assert!(complaint(|text| text.replace(",ok,\n", ",ok\n")).contains("line 2: 12 fields in place of 13"));
    assert!(complaint(|_| String::new()).contains("the file is empty"));
}

#[test]
fn the_reader_refuses_columns_that_it_does_not_know() {
    let edit = |from: &'static str, to: &'static str| complaint(move |text| text.replacen(from, to, 1));
    assert!(edit("detail", "detail,more").contains("unknown column \"more\""));
    assert!(edit(",detail", "").contains("column detail is missing"));
    assert!(edit("block,order", "order,block").contains("in this order"));
}

#[test]
fn a_recording_of_another_schema_or_with_unknown_keys_is_refused() {
    let dir = recorded(&[]);
    let path = dir.path().join(RUN);
    let json = fs::read_to_string(&path).expect("just written");
    fs::write(&path, json.replace("\"schema\": 1", "\"schema\": 9")).expect("own file");
    assert!(read(dir.path()).expect_err("schema 9").to_string().contains("is of schema 9"));
    fs::write(&path, json.replace("\"seed\"", "\"speed\"")).expect("own file");
    assert!(matches!(read(dir.path()).expect_err("an unknown key"), StoreError::BadRun { .. }));
}

#[test]
fn a_folder_without_a_recording_says_what_is_missing() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let text = read(dir.path()).expect_err("nothing there").to_string();
    assert!(text.contains("run.json is missing"), "{text}");
}

/// Name of this very test, for the child that runs on the small disk.
const FULL_DISK: &str = "store::tests::a_full_disk_costs_the_last_block_and_is_named";

#[test]
fn a_full_disk_costs_the_last_block_and_is_named() {
    if let Some(dir) = std::env::var_os("BENCH_HARNESS_SMALL_DISK") {
        return fill_the_disk(Path::new(&dir));
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let itself = std::env::current_exe().expect("a running program");
    let script = "mount -t tmpfs -o size=64k none \"$0\" || exit 77; exec \"$1\" --exact \"$2\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(dir.path())
        .arg(itself)
        .arg(FULL_DISK)
        .env("BENCH_HARNESS_SMALL_DISK", dir.path())
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) if output.status.code() == Some(101) => {
            panic!("{}", String::from_utf8_lossy(&output.stdout));
        }
        other => eprintln!("skipped: no small disk can be mounted here: {other:?}"),
    }
}

fn fill_the_disk(dir: &Path) {
    let mut recording = Recording::create(&dir.join("out"), &info()).expect("an empty folder");
    let block = |number| (0..50).map(|order| Sample { order, ..sample(number, 1.0) }).collect::<Vec<_>>();
    let mut whole = 0;
    let error = loop {
        match recording.append(&block(whole)) {
            Ok(()) => whole += 1,
            Err(error) => break error,
        }
        assert!(whole < 1000, "the disk has 64 KiB");
    };
    assert!(error.to_string().contains(SAMPLES_PART), "{error}");
    drop(recording);
    let (info, samples) = read(&dir.join("out")).expect("what was kept");
    assert!(info.interrupted);
    assert_eq!(samples.len(), whole as usize * 50);
}

proptest! {
    #[test]
    fn every_value_and_text_survives_the_file(
        value in 0.0..9e15,
        detail in "[ -~\n\"]{0,40}",
        workload in "\\PC{0,10}",
    ) {
        let samples = [Sample { detail, workload, ..sample(0, value) }];
        let dir = recorded(&samples);
        prop_assert_eq!(read(dir.path()).expect("own recording").1, samples.to_vec());
    }

    #[test]
    fn the_reader_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let dir = recorded(&[]);
        let path = dir.path().join(SAMPLES);
        let mut text = fs::read(&path).expect("just written");
        text.extend(bytes);
        fs::write(&path, text).expect("own file");
        drop(read(dir.path()));
    }
}
