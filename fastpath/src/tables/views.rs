//! Views: names of their own for some clients, such as those inside.
//!
//! A client belongs to the first view that its query fits: by the interface it came in by, by the prefix of its address, or
//! by both where a view names both. Clients without a view see [`super::Tables::names`].

use std::sync::Arc;

use super::interfaces::InterfaceId;
use super::names::Names;
use crate::addr::Addr;

/// Views of one appliance: each query looks through them.
pub const VIEWS_MAX: usize = 8;

/// What some clients see.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Its name in the configuration.
    pub name: String,
    /// Interfaces that its clients' queries come in by; empty for any.
    pub interfaces: Vec<InterfaceId>,
    /// Prefixes of its clients' addresses, with their lengths in bits of the family; empty for any.
    pub prefixes: Vec<(Addr, u8)>,
    /// What they see.
    pub names: Names,
}

/// All views, in the order in which they are tried.
#[derive(Clone, Debug, Default)]
pub struct Views(Arc<[View]>);

impl Views {
    /// These views; those beyond [`VIEWS_MAX`] are left out.
    pub fn new(mut views: Vec<View>) -> Self {
        views.truncate(VIEWS_MAX);
        Self(views.into())
    }

    /// Whether everybody sees the same.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a client sees that asks by this interface, if it is in a view.
    pub fn find(&self, interface: InterfaceId, client: Addr) -> Option<&Names> {
        self.0.iter().find(|view| view.fits(interface, client)).map(|view| &view.names)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &View> {
        self.0.iter()
    }
}

impl View {
    fn fits(&self, interface: InterfaceId, client: Addr) -> bool {
        (self.interfaces.is_empty() || self.interfaces.contains(&interface))
            && (self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| contains(*prefix, client)))
    }
}

fn contains((prefix, len): (Addr, u8), addr: Addr) -> bool {
    let bits = if prefix.is_v4() { 32 } else { 128 };
    let host_bits = bits - u32::from(len).min(bits);
    prefix.is_v4() == addr.is_v4() && (prefix.0 ^ addr.0).checked_shr(host_bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Addr {
        Addr::from(text.parse::<std::net::IpAddr>().unwrap())
    }

    #[test]
    fn the_first_view_that_fits_is_the_clients() {
        let view = |interfaces: &[u16], prefixes: &[(&str, u8)]| View {
            name: String::new(),
            interfaces: interfaces.iter().map(|id| InterfaceId(*id)).collect(),
            prefixes: prefixes.iter().map(|(text, len)| (addr(text), *len)).collect(),
            names: Names::default(),
        };
        let views = Views::new(vec![
            view(&[1], &[("10.0.0.0", 8)]),
            view(&[], &[("10.1.0.0", 16), ("2001:db8::", 32)]),
            view(&[2], &[]),
        ]);
        let index = |interface, client: &str| {
            let found = views.find(InterfaceId(interface), addr(client))?;
            views.iter().position(|view| std::ptr::eq(&view.names, found))
        };
        assert_eq!(index(1, "10.1.2.3"), Some(0));
        assert_eq!(index(0, "10.1.2.3"), Some(1), "the first wants its interface too");
        assert_eq!(index(0, "10.2.2.3"), None);
        assert_eq!(index(1, "2001:db8:ffff::1"), Some(1));
        assert_eq!(index(2, "192.0.2.1"), Some(2));
        assert_eq!(index(0, "192.0.2.1"), None);
    }

    #[test]
    fn families_have_prefixes_of_their_own() {
        assert!(contains((addr("0.0.0.0"), 0), addr("203.0.113.9")));
        assert!(!contains((addr("0.0.0.0"), 0), addr("2001:db8::1")));
        assert!(
            contains((addr("::"), 0), addr("2001:db8::1")) && !contains((addr("::"), 0), addr("10.0.0.1"))
        );
        assert!(contains((addr("192.0.2.1"), 32), addr("192.0.2.1")));
        assert!(!contains((addr("192.0.2.1"), 32), addr("192.0.2.0")));
    }
}
