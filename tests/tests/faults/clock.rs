//! The wall clock is set while the server runs.

use annals_tests::events;
use anyhow::{Result, ensure};

use crate::Bench;
use crate::notes::{Answer, Notes};

const HOUR: i64 = 3_600;

#[test]
fn a_clock_that_is_set_back_does_not_make_recorded_times_run_backwards() -> Result<()> {
    let bench = Bench::new()?;
    let server = bench.start()?;
    let mut notes = Notes::default();
    for hours in [0, -1, -2] {
        bench.control.move_clock(hours * HOUR)?;
        for _ in 0..3 {
            let answer = notes.send(&server.command, 10)?;
            ensure!(answer == Answer::Acknowledged, "{hours} hours off: {answer:?}");
        }
    }
    notes.check(&server)?;
    let times: Vec<_> = events::all(&server.command)?
        .into_iter()
        .map(|event| event.time)
        .collect();
    ensure!(times.len() == 9 && times.is_sorted(), "{times:?}");
    ensure!(
        times[8] - times[0] < chrono::TimeDelta::minutes(50),
        "the hours went into the log: {times:?}"
    );
    server.stop()
}

#[test]
fn a_clock_that_jumps_ahead_stops_appends_until_the_server_is_started_again() -> Result<()> {
    let bench = Bench::new()?;
    let server = bench.start()?;
    let mut notes = Notes::default();
    ensure!(
        notes.send(&server.command, 10)? == Answer::Acknowledged,
        "the clock is right"
    );
    bench.control.move_clock(HOUR)?;
    // Set right again, too: what was refused may be in nobody's log, but what the clock does next is not known.
    for hours in [1, 0] {
        bench.control.move_clock(hours * HOUR)?;
        let Answer::Refused(status, text) = notes.send(&server.command, 10)? else {
            anyhow::bail!("acknowledged after the clock jumped, {hours} hours off")
        };
        ensure!(
            status == 503 && text.contains("clock-jumped") && text.contains("restart"),
            "{status} {text}"
        );
    }
    ensure!(
        server.command.get("/v1/streams/notes/n-1")?.status == 200,
        "reading goes on"
    );
    server.stop()?;

    let server = bench.start()?;
    notes.repeat_unanswered(&server, 10)?;
    server.stop()
}
