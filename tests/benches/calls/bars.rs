//! What the calls are held against.

use mesh_tests::bench::{
    BoxError,
    report::{Figures, Row},
    table::{self, Entry},
};

use crate::{
    contestants::{
        CORE, CORE_XDS, ENVOYS, ENVOYS_SECURED, OURS, OURS_SECURED, PLAIN, SECURED, TONIC_XDS,
    },
    shape::Shape,
};

/// Prints and keeps what stands against a bar, of the figures on one thread. Bars for instructions are
/// judged by CPU time where those cannot be counted, and named so.
pub(crate) fn print(rows: &[Row]) -> Result<(), BoxError> {
    let of = |contestant: &str, in_flight: u64| {
        let load = format!("{} current {in_flight}", Shape::PLAIN);
        let mut rows = rows.iter();
        let row = rows.find(|row| row.contestant == contestant && row.load == load)?;
        Some(row.figures())
    };
    let mut entries = Vec::new();
    let costs = [
        (OURS, PLAIN, 64, 0.97),
        (OURS, PLAIN, 1, 1.0),
        (OURS_SECURED, SECURED, 64, 1.0),
        (OURS_SECURED, SECURED, 1, 1.0),
    ];
    for (ours, theirs, in_flight, bar) in costs {
        if let (Some(own), Some(base)) = (of(ours, in_flight), of(theirs, in_flight)) {
            let measure = format!(
                "{} per unary call, {ours}, {in_flight} in flight",
                own.unit()
            );
            let ratio = own.cost().median / base.cost().median;
            entries.push(Entry::at_most(&measure, theirs, bar, ratio, "x"));
        }
    }
    if let Some(own) = of(OURS, 64) {
        let measure = "allocations per unary call, 64 in flight";
        let allocations = own.allocations.median;
        let against = of(PLAIN, 64).map_or(String::new(), |base| {
            format!("{PLAIN}: {:.1}", base.allocations.median)
        });
        entries.push(Entry::at_most(measure, &against, 32.0, allocations, ""));
    }
    if let (Some(own), Some(theirs), Some(base)) = (of(OURS, 64), of(TONIC_XDS, 64), of(PLAIN, 64))
    {
        let add_on = |figures: &Figures| figures.cost().median - base.cost().median;
        let measure = format!("added {} per unary call, 64 in flight", own.unit());
        let (ours, theirs) = (add_on(&own), add_on(&theirs));
        if theirs > 0.0 {
            // One that takes less than none is the best there is.
            let (against, ratio) = (format!("{TONIC_XDS}: {theirs:.0}"), ours.max(0.0) / theirs);
            entries.push(Entry::at_most(&measure, &against, 0.1, ratio, "x"));
        } else {
            println!("{measure}: ours {ours:.0}, that of {TONIC_XDS} lost in the noise\n");
        }
    }
    if let (Some(own), Some(base), Some(theirs), Some(plain)) =
        (of(OURS, 64), of(PLAIN, 64), of(CORE_XDS, 64), of(CORE, 64))
    {
        let added = theirs.cost().median - plain.cost().median;
        println!(
            "added CPU time per unary call, 64 in flight: ours {:.0} ns, C-core's xDS {added:.0} ns\n",
            own.cpu_ns.median - base.cpu_ns.median
        );
    }
    let rates = [
        (OURS, TONIC_XDS, 1.25),
        (OURS, ENVOYS, 6.0),
        (OURS_SECURED, ENVOYS_SECURED, 6.0),
    ];
    for (ours, theirs, bar) in rates {
        if let (Some(own), Some(base)) = (of(ours, 128), of(theirs, 128)) {
            let measure = format!("unary calls per second, {ours}, 128 in flight");
            let ratio = own.per_second.median / base.per_second.median;
            entries.push(Entry::at_least(&measure, theirs, bar, ratio, "x"));
        }
    }
    table::keep(env!("CARGO_TARGET_TMPDIR"), "calls", &entries)
}
