//! Another configuration while all runs: what it takes away, flows still have; what it brings is there at once.

use std::sync::Arc;

use millrace_config::Diff;

use crate::scenario::Plan;
use crate::world::World;

impl World {
    /// The operator changes something. The control loop takes it over when it turns.
    pub(crate) fn vary_configuration(&mut self) {
        if self.paused_until > self.now {
            return self.at(self.paused_until, crate::world::Happening::Fault(crate::faults::Fault::Reload));
        }
        let mut plan = self.scenario.plan.clone();
        plan.vary(&mut self.random);
        self.reload(plan);
    }

    /// All services are there again.
    pub(crate) fn restore_configuration(&mut self) {
        let mut plan = self.scenario.plan.clone();
        plan.restore();
        self.reload(plan);
    }

    /// The orchestrator is told first, for a service may be woken as soon as workers know it.
    fn reload(&mut self, plan: Plan) {
        let config = plan.config();
        let diff = Diff::new(&self.scenario.config, &config);
        if diff.is_empty() {
            return;
        }
        assert!(diff.restarts().next().is_none(), "only what can be changed while all runs");
        for change in &diff.changes {
            self.trace(|| change.to_string());
        }
        // Until now the limits of before held.
        self.note_allowance();
        let before = self.scenario.limits().wakes.per_second;
        (self.scenario.plan, self.scenario.config) = (plan, config);
        let placements = self.scenario.placements();
        self.engine(|engine, now| engine.replace(placements, now));
        let config = Arc::new(self.scenario.config.clone());
        self.appliance.control.reload_now(&config, self.now).expect("the appliance can carry it out");
        self.appliance.find_services(self.scenario.services());
        self.note_configuration();
        self.note_other_limit(before);
        self.note_other_services();
        self.note_reload();
    }
}
