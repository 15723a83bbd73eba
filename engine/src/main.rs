//! `finetuned-trainer`: one training run, or one model at work, per process. It loads libtorch, reads a spec, prints
//! messages and takes commands, all as lines of JSON (see `domain::run` and `domain::serving`).

use std::io::{BufRead, Write};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use finetuned::clock::boot_time;
use finetuned::domain::job::JobError;
use finetuned::domain::model::Checked;
use finetuned::domain::preview::Previewed;
use finetuned::domain::run::{ABANDONED, TrainerCommand, TrainerMessage};
use finetuned::domain::serving::{Answered, Asked, Opened, Refusal, Reply};
use finetuned::failpoint::Failpoints;
use finetuned_engine::error::EngineError;
use finetuned_engine::observer::{Observer, Part};
use finetuned_engine::profile::Profile;
use finetuned_engine::serving::Server;
use finetuned_engine::{check, device, native, preview, run, serving};

/// For libtorch as well, whose tensors come and go every step: it takes a tenth less time than the C library's, and
/// less memory. The worker sets `MALLOC_CONF`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const USAGE: &str = "usage: finetuned-trainer run SPEC [auto|cpu|cuda] [--profile] | finetuned-trainer wait SPEC BYTES | \
                     finetuned-trainer serve SPEC [auto|cpu|cuda] | \
                     finetuned-trainer check MODEL | finetuned-trainer preview SPEC | finetuned-trainer devices";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["devices"] => {
            print_line(&device::available());
            ExitCode::SUCCESS
        }
        ["check", model] => {
            let checked = std::panic::catch_unwind(|| check::check(Path::new(model)));
            print_line(&checked.unwrap_or_else(|_| Checked::Refused(told(None).message)));
            ExitCode::SUCCESS
        }
        ["preview", spec] => {
            let shown = std::panic::catch_unwind(|| preview::preview(Path::new(spec)));
            print_line(&shown.unwrap_or_else(|_| Previewed::Failed(told(None))));
            ExitCode::SUCCESS
        }
        ["run", spec] => train(Path::new(spec), "auto", Begin::AtOnce),
        ["run", spec, "--profile"] => train(Path::new(spec), "auto", Begin::Profiled),
        ["run", spec, device] => train(Path::new(spec), device, Begin::AtOnce),
        ["run", spec, device, "--profile"] => train(Path::new(spec), device, Begin::Profiled),
        ["wait", spec, bytes] => {
            train(Path::new(spec), "auto", Begin::WhenTold { touched: bytes.parse().unwrap_or(0) })
        }
        ["serve", spec] => serve(Path::new(spec), "auto"),
        ["serve", spec, device] => serve(Path::new(spec), device),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// When and how a run begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    AtOnce,
    /// The same, with a profile of it on standard error.
    Profiled,
    /// With libtorch ready and so many bytes of memory touched, once the input says so.
    WhenTold {
        touched: u64,
    },
}

/// Runs a spec.
fn train(spec: &Path, wanted: &str, begin: Begin) -> ExitCode {
    let console: &'static Console = Box::leak(Box::default());
    let (start, started) = mpsc::channel();
    std::thread::spawn(move || console.listen(&start));
    std::thread::spawn(|| console.keep_lease());
    let is_profiled = begin == Begin::Profiled;
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        if let Begin::WhenTold { touched } = begin {
            device::warm_up(wanted, touched)?;
            // It is told, or the process ends with its input.
            let _ = started.recv();
        }
        let spec = run::read_spec(spec)?;
        let _ = console.failpoints.set(Failpoints::parse(&spec.failpoints).map_err(EngineError::Native)?);
        native::on_quit(write_stack)?;
        let device = device::prepare(wanted, spec.threads)?;
        if is_profiled {
            native::profile::begin()?;
        }
        run::run(&spec, device, console)
    }));
    if let (true, Ok(profile)) = (is_profiled, console.profile.lock()) {
        eprintln!("{}", profile.table());
    }
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            console.report(TrainerMessage::Failed { error: told(Some(&error)) });
            ExitCode::FAILURE
        }
        Err(_) => {
            console.report(TrainerMessage::Failed { error: told(None) });
            ExitCode::FAILURE
        }
    }
}

/// The error as it is told to others, and in full on standard error; None is a panic, whose message is there already.
fn told(error: Option<&EngineError>) -> JobError {
    let Some(error) = error else {
        return JobError::new("engine_error", "the training engine failed; the attempt's log has the details");
    };
    eprintln!("error: {error}");
    error.job_error()
}

/// Answers requests until the input ends, which is also how it ends with its parent.
fn serve(spec: &Path, wanted: &str) -> ExitCode {
    let opened = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let spec = serving::read_spec(spec)?;
        let device = device::prepare(wanted, spec.threads)?;
        Server::open(&spec, device)
    }));
    let mut server = match opened {
        Ok(Ok(server)) => server,
        failed => {
            let error = failed.ok().and_then(Result::err);
            print_line(&Opened::Failed(told(error.as_ref())));
            return ExitCode::FAILURE;
        }
    };
    print_line(&Opened::Ready);
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let asked: Asked = match serde_json::from_str(&line) {
            Ok(asked) => asked,
            Err(error) => {
                eprintln!("a malformed request: {error}");
                return ExitCode::FAILURE;
            }
        };
        let replied =
            std::panic::catch_unwind(AssertUnwindSafe(|| server.reply(&asked, &mut |reply| print_line(&reply))));
        let reply = replied.map_err(|_| None).and_then(|reply| reply.map_err(Some)).unwrap_or_else(|error| {
            let refusal = Refusal { param: None, message: told(error.as_ref()).message };
            Reply { id: asked.id, answer: Answered::Error(refusal) }
        });
        print_line(&reply);
    }
    ExitCode::SUCCESS
}

/// Writes where the training thread is to standard error; called in its signal handler, when it has hung for so long
/// that it will be killed whether this works or not.
extern "C" fn write_stack() {
    let stack = std::backtrace::Backtrace::force_capture().to_string();
    eprintln!("the training thread is at:\n{}", stack.lines().take(MOST_LINES).collect::<Vec<_>>().join("\n"));
}

/// Lines of a stack, innermost first, that fit into what is kept of standard error.
const MOST_LINES: usize = 60;

/// How often the trainer says that it is alive.
const ALIVE: Duration = Duration::from_secs(1);

/// Standard output for messages, standard input for commands.
#[derive(Default)]
struct Console {
    stop: OnceLock<TrainerCommand>,
    failpoints: OnceLock<Failpoints>,
    last_alive: Mutex<Option<Instant>>,
    profile: Mutex<Profile>,
    /// When to exit, in milliseconds since boot; 0 until the worker says.
    lease_until: AtomicU64,
}

/// How often the trainer looks whether it may live on.
const LEASE: Duration = Duration::from_millis(100);

impl Console {
    /// Takes commands until the input ends, which means that the worker is gone: nobody would take the result.
    fn listen(&self, start: &mpsc::Sender<()>) {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            match serde_json::from_str(&line) {
                Ok(TrainerCommand::Lease { until }) => self.lease_until.store(until, Ordering::Release),
                Ok(command @ TrainerCommand::Stop { .. }) => drop(self.stop.set(command)),
                // Whoever does not wait for it began long ago.
                Ok(TrainerCommand::Start) => drop(start.send(())),
                Err(error) => eprintln!("ignored an unknown command: {error}"),
            }
        }
        native::leave(ABANDONED);
    }

    /// Exits when the lease runs out: the worker hangs, and another one may be given the job.
    fn keep_lease(&self) {
        loop {
            let until = self.lease_until.load(Ordering::Acquire);
            if until > 0 && boot_time() > Duration::from_millis(until) {
                eprintln!("the worker did not renew the lease in time");
                native::leave(ABANDONED);
            }
            std::thread::sleep(LEASE);
        }
    }
}

impl Observer for Console {
    fn report(&self, message: TrainerMessage) {
        print_line(&message);
    }

    fn stop(&self) -> Option<TrainerCommand> {
        self.stop.get().copied()
    }

    fn alive(&self) {
        let Ok(mut last) = self.last_alive.lock() else { return };
        if last.is_none_or(|last| last.elapsed() >= ALIVE) {
            *last = Some(Instant::now());
            print_line(&TrainerMessage::Alive);
        }
    }

    fn spent(&self, part: Part, time: Duration) {
        if let Ok(mut profile) = self.profile.lock() {
            profile.add(part, time);
        }
    }

    fn pass(&self, place: &str, number: u64) {
        if let Some(failpoints) = self.failpoints.get() {
            failpoints.hit(place, number);
        }
    }
}

/// One line of JSON. A closed pipe means that the worker is gone.
fn print_line(value: &impl serde::Serialize) {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    if out.write_all(&line).and_then(|()| out.flush()).is_err() {
        native::leave(ABANDONED);
    }
}
