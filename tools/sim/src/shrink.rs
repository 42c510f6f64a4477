//! From a plan that fails to the shortest that still does.

use crate::kernel::faults::Fault;
use crate::run::{Plan, Serves, run};
use crate::world::faults_of;

/// Those that say their name in front of what they have found.
const ORACLES: &[&str] = &[
    "submission",
    "registration",
    "descriptors",
    "memory",
    "shared buffers",
    "replies",
    "flush",
    "writes",
    "model",
    "bounds",
    "leaks",
    "stall",
    "trust",
    "gates",
    "log",
    "asks",
    "relay",
    "store",
];

/// Which oracle has found it.
pub fn oracle(why: &str) -> &'static str {
    ORACLES.iter().find(|name| why.contains(&format!("{name}: "))).unwrap_or(&"the server itself")
}

/// Makes it calm earlier, leaves out clients and kinds of fault, as long as something fails. The plan, and what it says.
pub fn shrink(plan: &Plan) -> (Plan, String) {
    let mut best = plan.clone();
    let mut why = run(plan).err().unwrap_or_default();
    let mut try_it = |best: &mut Plan, next: Plan| {
        if let Err(text) = run(&next)
            && oracle(&text) == oracle(&why)
        {
            (*best, why) = (next, text);
            return true;
        }
        false
    };
    let here = faults_of(plan.seed, &plan.without);
    // Each life of a store has faults of its own.
    let may_have = |fault: &&Fault| plan.serves == Serves::Store || here.has(**fault);
    for &fault in Fault::ALL.iter().filter(may_have) {
        let mut next = best.clone();
        next.without.push(fault);
        try_it(&mut best, next);
    }
    for clients in 1..=4 {
        let next = Plan { clients: Some(clients), ..best.clone() };
        if try_it(&mut best, next) {
            break;
        }
    }
    let mut width = best.steps / 2;
    while width > 0 {
        let next = Plan { steps: best.steps.saturating_sub(width), ..best.clone() };
        if !try_it(&mut best, next) {
            width /= 2;
        }
    }
    (best, why)
}
