//! What every test begins and ends with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_hw_tests::edge::client::{self, CurlTimes};
use millrace_hw_tests::edge::{
    self, Appliance, Edge, Fates, Function, MANAGEMENT, Service, ServingNode, Shape, Site,
};
use millrace_hw_tests::lab::{LabError, command};

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_millrace");

/// Long enough for anything that will happen at all on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// An edge location with its appliance and its serving node. Fields go in this order.
pub(crate) struct World {
    pub(crate) appliance: Appliance,
    pub(crate) node: Option<ServingNode>,
    pub(crate) edge: Edge,
    pub(crate) site: Site,
}

/// The example functions.
pub(crate) fn functions() -> Vec<Function> {
    let binary = Path::new(BINARY);
    ["hello", "echo"].map(|name| Function::new(name, edge::component(binary, name).unwrap())).into()
}

/// The example functions, with time for a slow transfer.
pub(crate) fn slow_functions() -> Vec<Function> {
    functions().into_iter().map(|function| function.set("deadline_ms", "60000")).collect()
}

/// Service number `number` in front of function `hello`.
pub(crate) fn hello(name: &str, number: u16) -> Service {
    Service::new(name, number, "hello")
}

impl World {
    /// A world of two ports with these services and a registered serving node.
    pub(crate) fn new(services: Vec<Service>) -> Self {
        Self::build(Shape::TwoPort, Site::new(functions(), services))
    }

    /// Any world with a registered serving node.
    pub(crate) fn build(shape: Shape, site: Site) -> Self {
        let mut world = Self::without_node(shape, site);
        world.start_node();
        world
    }

    /// Any world, with nobody to run its functions.
    pub(crate) fn without_node(shape: Shape, site: Site) -> Self {
        Self::in_edge(Edge::new(shape).unwrap(), site)
    }

    /// A world in a location that has been prepared, with nobody to run its functions.
    pub(crate) fn in_edge(mut edge: Edge, site: Site) -> Self {
        edge.watch().unwrap();
        let appliance = Appliance::start(&edge, Path::new(BINARY), &site).unwrap();
        World { appliance, node: None, edge, site }
    }

    /// Starts the serving node and waits until it has registered.
    pub(crate) fn start_node(&mut self) {
        let functions = &self.site.functions;
        self.node = Some(ServingNode::start(&self.edge, Path::new(BINARY), &endpoint(), functions).unwrap());
        self.appliance.wait_for_node().unwrap();
    }

    /// The end of every test: each frame has one fate, the appliance ends cleanly when asked to, and no capture holds a
    /// malformed frame.
    pub(crate) fn conclude(self) -> Fates {
        let World { appliance, node, mut edge, .. } = self;
        let fates = appliance.fates().unwrap();
        let status = appliance.stop().unwrap();
        assert!(status.success(), "after SIGTERM the appliance ended with {status}");
        drop(node);
        edge.inspect().unwrap();
        fates
    }

    /// A service's row in `show services`, one field of it as a number.
    pub(crate) fn number_of(&self, service: &str, field: &str) -> u64 {
        self.appliance.row("services", service).unwrap()[field].as_u64().unwrap()
    }

    /// Sends a megabyte to a URL that gives back what it gets, and compares.
    pub(crate) fn megabyte(&self, args: &str, url: &str) {
        let (sent, back) = self.megabyte_files();
        command::succeed(&mut client::post_command(&self.edge.client, args, url, &sent, &back)).unwrap();
        self.same_megabyte(&sent, &back);
    }

    /// A file with a megabyte in it, and where what comes back is to be.
    pub(crate) fn megabyte_files(&self) -> (PathBuf, PathBuf) {
        let text: String = (0..131_072).map(|line| format!("{line:07}\n")).collect();
        (self.edge.lab().write("sent", &text).unwrap(), self.edge.lab().folder().join("back"))
    }

    /// That all of it came back as it went.
    pub(crate) fn same_megabyte(&self, sent: &Path, back: &Path) {
        assert!(std::fs::read(back).unwrap() == std::fs::read(sent).unwrap(), "the body changed on its way");
        std::fs::remove_file(back).unwrap();
    }
}

/// That a client was told at once, by a reset, that nobody serves it; not by silence.
pub(crate) fn assert_refused(tried: Result<CurlTimes, LabError>) {
    let said = tried.expect_err("nobody can have answered").to_string();
    // curl's exit code for a connection that was not made; one that is never answered gives 28.
    assert!(said.contains("exit status: 7"), "{said}");
}

/// Where orchestrators listen in a lab.
pub(crate) fn endpoint() -> String {
    format!("https://{MANAGEMENT}:7443")
}
