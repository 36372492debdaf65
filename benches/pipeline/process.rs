//! Processes and what they use.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wait4::Wait4;

use crate::Outcome;

/// What a run used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// From its start until the last event had arrived.
    pub(crate) wall: Duration,
    /// User and system time of all its threads, start and stop included.
    pub(crate) cpu: Duration,
    /// Largest resident set. Never less than this program's own, from which it was forked.
    pub(crate) peak_bytes: u64,
    /// What the simulator used meanwhile.
    pub(crate) peer_cpu: Duration,
    pub(crate) events: u64,
    /// Raw bytes.
    pub(crate) bytes: u64,
}

impl Usage {
    /// CPU time of an event, in microseconds.
    pub(crate) fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.events as f64
    }

    /// Notes what was written.
    pub(crate) fn measure(&mut self, files: &[PathBuf], events: u64) -> Outcome<()> {
        self.events = events;
        for path in files {
            self.bytes += path.metadata()?.len();
        }
        Ok(())
    }
}

/// A process that is being measured. Killed when dropped.
pub(crate) struct Measured {
    child: Option<Child>,
    peer: u32,
    peer_before: Duration,
    started: Instant,
}

/// Starts a measurement. `peer` is the simulator's process.
pub(crate) fn start(command: &mut Command, peer: u32) -> Outcome<Measured> {
    let peer_before = cpu_time(peer)?;
    Ok(Measured {
        started: Instant::now(),
        child: Some(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?),
        peer,
        peer_before,
    })
}

impl Measured {
    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> Outcome<bool> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// Takes the time now, asks it to stop and waits until it has.
    pub(crate) fn stop(self) -> Outcome<Usage> {
        let wall = self.started.elapsed();
        if let Some(child) = &self.child
            && let Some(id) = rustix::process::Pid::from_raw(child.id() as i32)
        {
            rustix::process::kill_process(id, rustix::process::Signal::INT)?;
        }
        Ok(Usage {
            wall,
            ..self.wait()?
        })
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(mut self) -> Outcome<Usage> {
        let child = self.child.take().ok_or("the process has ended already")?;
        let ended = child.wait4()?;
        let wall = self.started.elapsed();
        if !ended.status.success() {
            return Err(format!("a measured process failed: {}", ended.status).into());
        }
        Ok(Usage {
            wall,
            cpu: ended.rusage.utime + ended.rusage.stime,
            peak_bytes: ended.rusage.maxrss,
            peer_cpu: cpu_time(self.peer)?.saturating_sub(self.peer_before),
            ..Usage::default()
        })
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            kill(child);
        }
    }
}

/// Ends a process in an error's wake.
pub(crate) fn kill(child: &mut Child) {
    // It may have ended by itself.
    drop(child.kill());
    drop(child.wait());
}

/// CPU time of a process so far.
fn cpu_time(process: u32) -> Outcome<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in brackets may hold anything. Behind it, user and system time are the 12th and 13th field (proc(5)).
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(str::parse::<u64>).sum::<Result<_, _>>()?;
    // Linux counts in hundredths of a second on every architecture.
    Ok(Duration::from_millis(ticks * 10))
}

/// Lines of a file, in little memory.
pub(crate) fn count_lines(path: &Path) -> Outcome<u64> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 256 << 10];
    let mut lines = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(lines);
        }
        lines += memchr::memchr_iter(b'\n', &buffer[..read]).count() as u64;
    }
}
