//! `ring9-sim`: one seed with a trace, or many with figures.

mod many;

use clap::Parser;
use many::Many;
use ring9_sim::{Fault, INPUT_STEPS, Plan, Serves, oracle, run};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

/// Simulates a kernel and clients around ring9's loop.
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    /// One seed.
    #[arg(long, conflicts_with = "seeds", required_unless_present_any = ["seeds", "sweep", "input"])]
    seed: Option<u64>,
    /// An input of the fuzz target "kernel": a seed, and the first choices.
    #[arg(long, conflicts_with_all = ["seed", "seeds", "sweep"])]
    input: Option<PathBuf>,
    /// Seeds FROM..TO, without the last one; each is run twice, and both must be the same.
    #[arg(long, value_parser = range)]
    seeds: Option<Range<u64>>,
    /// For each seed FROM..TO: lets the first submission fail, then the second, and so on, until a run ends before it comes to that.
    #[arg(long, value_parser = range, conflicts_with_all = ["seed", "seeds", "store"])]
    sweep: Option<Range<u64>>,
    /// Steps before nothing goes wrong any more; 6000, or 300 with an input.
    #[arg(long)]
    steps: Option<u64>,
    /// Clients in all, instead of as many as come.
    #[arg(long)]
    clients: Option<usize>,
    /// Kinds of fault to leave out; "all" leaves out all.
    #[arg(long, value_delimiter = ',', value_parser = faults)]
    without: Vec<Faults>,
    /// Lets the submission of this number fail.
    #[arg(long)]
    fails_at: Option<u64>,
    /// The server relays to another one, which is late, fails, vanishes and talks rubbish.
    #[arg(long, conflicts_with = "store")]
    relay: bool,
    /// The server has a store on a disk that forgets; its power fails, and it starts again, several times.
    #[arg(long)]
    store: bool,
    /// Says everything that happens.
    #[arg(long)]
    trace: bool,
    /// Ends with the first seed that fails, as it is.
    #[arg(long)]
    first: bool,
    /// Fails if any kind of fault has never happened.
    #[arg(long)]
    all_faults: bool,
    /// Processes at a time; as many as there are processors, unless said otherwise.
    #[arg(long)]
    jobs: Option<usize>,
    /// Is one of those processes: figures in a form for the one that started it.
    #[arg(long, hide = true)]
    worker: bool,
}

#[derive(Clone, Debug)]
struct Faults(Vec<Fault>);

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("FROM..TO")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    Ok(number(from)?..number(to)?)
}

fn faults(text: &str) -> Result<Faults, String> {
    if text == "all" {
        return Ok(Faults(Fault::ALL.to_vec()));
    }
    let found = Fault::ALL.iter().find(|fault| fault.name() == text);
    found.map(|&fault| Faults(vec![fault])).ok_or_else(|| {
        let names: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        format!("there are {}", names.join(", "))
    })
}

impl Flags {
    fn serves(&self) -> Serves {
        match (self.relay, self.store) {
            (true, _) => Serves::Relay,
            (_, true) => Serves::Store,
            _ => Serves::Tree,
        }
    }

    fn plan(&self, seed: u64) -> Plan {
        Plan {
            clients: self.clients,
            without: self.without.iter().flat_map(|faults| faults.0.clone()).collect(),
            fails_at: self.fails_at,
            serves: self.serves(),
            traces: self.trace,
            ..Plan::new(seed, self.steps.unwrap_or(6000))
        }
    }
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    // What has failed is said once, by whoever catches it.
    std::panic::set_hook(Box::new(|_| ()));
    let all_well = if let Some(seed) = flags.seed {
        one(&flags.plan(seed))
    } else if let Some(path) = &flags.input {
        match std::fs::read(path) {
            Ok(input) => {
                let of_input = Plan::of_input(&input, flags.steps.unwrap_or(INPUT_STEPS));
                one(&Plan { seed: of_input.seed, schedule: of_input.schedule, steps: of_input.steps, ..flags.plan(0) })
            }
            Err(error) => {
                eprintln!("ring9-sim: {}: {error}", path.display());
                false
            }
        }
    } else if let (Some(seeds), true) = (&flags.seeds, flags.worker) {
        many::work(seeds.clone(), |seed| flags.plan(seed), flags.first)
    } else if let Some(seeds) = &flags.seeds {
        let jobs = flags.jobs.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
        Many { seeds: seeds.clone(), jobs, first: flags.first, all_faults: flags.all_faults, serves: flags.serves() }
            .run()
    } else {
        many::sweep(flags.sweep.clone().expect("one of the three"), |seed| flags.plan(seed))
    };
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(plan: &Plan) -> bool {
    let figures = run(plan);
    match &figures {
        Ok(figures) => println!("{figures:?}"),
        Err(why) => println!("seed {}: {} says: {why}", plan.seed, oracle(why)),
    }
    figures.is_ok()
}
