//! `millrace bier`: what a BIER domain makes of packets: before any router is set up, and as it runs.

mod asking;
mod ping;
mod trace;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use millrace_bier::bift::{Bift, NeighbourIndex, Reach, TABLES_MAX};
use millrace_bier::bits::ones;
use millrace_bier::compute::{Computed, Options};
use millrace_bier::id::{BfrId, Bsl, SubDomain};
use millrace_bier::overlay::Receivers;
use millrace_bier::topology::{Domain, RouterIndex};
use millrace_bier::tree::{Tree, Way};
use millrace_config::Report;
use millrace_config::domainfile::DomainFile;
use millrace_config::model::BfrIds;
use serde_json::{Value, json};

use crate::check::{print_report, say};
use crate::serve::fail;

/// Look at BIER domains: tables of routers, the trees of packets, and whether they arrive.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Compute(Compute),
    Ping(ping::Args),
    Trace(trace::Args),
}

/// Compute the tables of a topology's routers, or the tree of a packet's copies.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace bier compute domain.toml                                  the tables of all routers
  millrace bier compute domain.toml --router edge --json
  millrace bier compute domain.toml --from edge --bits 1,2,66-70     who sends whom a copy
  millrace bier compute domain.toml --from edge --bits 1,2 --format svg > tree.svg

With --json, tables are an array of objects with `router`, `si`, `bift_id` (or null), `local` (or null), `table` and `ways`: objects with
`bfr_ids`, `neighbour`, `reach` (\"link\" or \"tunnel\"), `links` (places in the file, from 0) and `bift_id`. A tree is an array of visits,
copies after what they are copies of: `router`, `from` (the place of the visit that sent it, or null), `link` (or null: a tunnel, or nobody
sent it), `si`, `ttl`, `receivers`, `delivered`, `unroutable` and `expired`.

Exit codes: 0 computed, 1 the file is wrong, 2 the call is wrong, 3 the file can't be read.")]
struct Compute {
    /// The file of the topology
    file: PathBuf,
    /// Only this router's tables
    #[arg(long, value_name = "NAME", conflicts_with = "bits")]
    router: Option<String>,
    /// Draw the tree of a packet to these routers, as in 1,2,66-70
    #[arg(long, value_name = "BFR-IDS", requires = "from")]
    bits: Option<BfrIds>,
    /// The router where the packet enters
    #[arg(long, value_name = "NAME", requires = "bits")]
    from: Option<String>,
    /// How the tree is drawn
    #[arg(long, value_enum, default_value_t = Format::Text, requires = "bits", conflicts_with = "json")]
    format: Format,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The sub-domain
    #[arg(long, default_value_t = 0)]
    subdomain: u8,
    /// The length of bit strings
    #[arg(long, value_name = "BITS", default_value_t = 256)]
    bitstring_bits: u32,
    /// How many tables entropy chooses between, 1 to 16
    #[arg(long, value_name = "N", default_value_t = 1)]
    ecmp_tables: usize,
    /// The packet's entropy, which chooses between equal ways
    #[arg(long, default_value_t = 0)]
    entropy: u32,
    /// The packet's time to live, in hops
    #[arg(long, default_value_t = 64)]
    ttl: u8,
}

/// How a tree is drawn.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A line for each copy.
    Text,
    /// A picture.
    Svg,
}

/// Runs `millrace bier`.
pub(crate) fn run(args: Args) -> ExitCode {
    let compute = match args.command {
        Command::Compute(compute) => compute,
        Command::Ping(args) => return ping::run(&args),
        Command::Trace(args) => return trace::run(&args),
    };
    match compute.text() {
        Ok(text) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

impl Compute {
    /// What is printed; what is wrong has been told where there is nothing.
    fn text(&self) -> Result<String, ExitCode> {
        let Some(bsl) = Bsl::from_bits(self.bitstring_bits) else {
            return Err(fail("--bitstring-bits is 64, 128, 256, 512, 1024, 2048 or 4096", 2));
        };
        if !(1..=TABLES_MAX).contains(&self.ecmp_tables) {
            return Err(fail("--ecmp-tables is 1 to 16", 2));
        }
        let domain = self.domain(SubDomain(self.subdomain), bsl)?;
        let options = Options { tables: self.ecmp_tables, seed: 0 };
        let named = |name: &String| {
            domain.router(name).ok_or_else(|| fail(&format!("the topology has no router {name:?}"), 2))
        };
        if let (Some(from), Some(bits)) = (&self.from, &self.bits) {
            let receivers = Receivers::new(bits.iter());
            let tree = Tree::new(&domain, options, named(from)?, &receivers, self.ttl, self.entropy);
            return Ok(match (self.json, self.format) {
                (true, _) => format!("{:#}\n", tree_json(&tree)),
                (false, Format::Text) => tree.to_string(),
                (false, Format::Svg) => tree.svg(),
            });
        }
        let routers: Vec<RouterIndex> = match &self.router {
            Some(name) => vec![named(name)?],
            None => (0..domain.routers().len() as u32).map(RouterIndex).collect(),
        };
        let rows = routers.into_iter().flat_map(|router| tables(&domain, router, options));
        let rows: Vec<Value> = rows.collect();
        Ok(if self.json { format!("{:#}\n", Value::Array(rows)) } else { table_text(&rows) })
    }

    fn domain(&self, sub_domain: SubDomain, bsl: Bsl) -> Result<Domain, ExitCode> {
        let name = self.file.display().to_string();
        let bytes = std::fs::read(&self.file).map_err(|error| {
            print_report(&Report::unreadable(&name, &error));
            ExitCode::from(3)
        })?;
        let domain = DomainFile::parse(&name, &bytes).and_then(|file| file.domain(sub_domain, bsl));
        domain.map_err(|report| {
            print_report(&report);
            ExitCode::from(1)
        })
    }
}

/// The tables of a router; none if it doesn't speak BIER.
fn tables(domain: &Domain, router: RouterIndex, options: Options) -> Vec<Value> {
    let computed = Computed::new(domain, router, options);
    let name_of =
        |neighbour| computed.router(neighbour).map_or("?", |router| domain.get(router).name()).to_owned();
    let own = domain.get(router);
    let rows = |bift: &Bift| {
        let key = bift.key();
        let ids =
            |mask: &[u64]| ones(mask).filter_map(|bit| BfrId::at(key.si, bit, key.bsl)).collect::<BfrIds>();
        let way = |(neighbour, mask): (NeighbourIndex, &[u64])| {
            let reach = &bift.neighbour(neighbour).reach;
            let links: Vec<_> = reach.links().iter().map(|link| link.0).collect();
            json!({
                "bfr_ids": ids(mask).to_string(),
                "neighbour": name_of(neighbour),
                "reach": if *reach == Reach::Tunnel { "tunnel" } else { "link" },
                "links": links,
                "bift_id": bift.out(neighbour).map(|id| id.get()),
            })
        };
        let table = |(at, table): (usize, &millrace_bier::bift::Table)| {
            json!({
                "router": own.name(),
                "si": key.si.0,
                "bift_id": own.bift_ids().id(key).map(|id| id.get()),
                "local": bift.local().and_then(|bit| BfrId::at(key.si, bit, key.bsl)).map(BfrId::get),
                "table": at,
                "ways": table.rows().iter().map(way).collect::<Vec<_>>(),
            })
        };
        bift.tables().iter().enumerate().map(table).collect::<Vec<_>>()
    };
    computed.bifts().iter().flat_map(|bift| rows(bift)).collect()
}

fn table_text(rows: &[Value]) -> String {
    let mut text = String::new();
    let word = |value: &Value| match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // Writing to a string can't fail.
    for row in rows {
        let [router, si, id, table] = ["router", "si", "bift_id", "table"].map(|key| word(&row[key]));
        let _ = writeln!(text, "{router}: set {si}, BIFT-id {id}, table {table}");
        if !row["local"].is_null() {
            let _ = writeln!(text, "  {:<24} here", word(&row["local"]));
        }
        for way in row["ways"].as_array().into_iter().flatten() {
            let [ids, neighbour, reach, id] =
                ["bfr_ids", "neighbour", "reach", "bift_id"].map(|key| word(&way[key]));
            let links: Vec<String> = way["links"].as_array().into_iter().flatten().map(word).collect();
            let _ = writeln!(text, "  {ids:<24} {neighbour} by {reach} {} BIFT-id {id}", links.join("|"));
        }
    }
    text
}

fn tree_json(tree: &Tree) -> Value {
    let numbers = |ids: &[BfrId]| ids.iter().map(|id| id.get()).collect::<Vec<_>>();
    let visits = tree.visits().iter().map(|visit| {
        let link = match visit.from {
            Some((_, Way::Link(link))) => Some(link.0),
            _ => None,
        };
        json!({
            "router": visit.name,
            "from": visit.from.map(|(from, _)| from),
            "link": link,
            "si": visit.si.0,
            "ttl": visit.ttl,
            "receivers": numbers(&visit.receivers),
            "delivered": visit.delivered,
            "unroutable": numbers(&visit.unroutable),
            "expired": visit.expired,
        })
    });
    visits.collect()
}
