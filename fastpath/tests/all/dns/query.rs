//! Queries as clients of all kinds write them.

/// A query to be written.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    /// Wire form, in the client's spelling.
    pub(crate) name: Vec<u8>,
    /// QTYPE.
    pub(crate) kind: u16,
    /// QCLASS.
    pub(crate) class: u16,
    /// Message id.
    pub(crate) id: u16,
    /// Third and fourth byte of the header.
    pub(crate) flags: [u8; 2],
    /// The OPT record, if there is one.
    pub(crate) opt: Option<Opt>,
}

/// An OPT record to be written.
#[derive(Clone, Debug)]
pub(crate) struct Opt {
    /// The client's payload size.
    pub(crate) size: u16,
    /// VERSION.
    pub(crate) version: u8,
    /// DO and the bits behind it.
    pub(crate) flags: u16,
    /// Options: code and data.
    pub(crate) options: Vec<(u16, Vec<u8>)>,
}

impl Query {
    /// An ordinary query with RD, class IN, no OPT.
    pub(crate) fn new(name: &[u8], kind: u16) -> Self {
        Self { name: name.to_vec(), kind, class: 1, id: 0x1234, flags: [1, 0], opt: None }
    }

    /// The same with an OPT of this size.
    pub(crate) fn with_size(mut self, size: u16) -> Self {
        self.opt = Some(Opt { size, version: 0, flags: 0, options: vec![] });
        self
    }

    /// The message.
    pub(crate) fn to_wire(&self) -> Vec<u8> {
        let mut wire = [&self.id.to_be_bytes()[..], &self.flags, &[0, 1, 0, 0, 0, 0, 0]].concat();
        wire.push(u8::from(self.opt.is_some()));
        wire.extend(&self.name);
        wire.extend(self.kind.to_be_bytes());
        wire.extend(self.class.to_be_bytes());
        if let Some(opt) = &self.opt {
            wire.extend(opt.to_wire());
        }
        wire
    }
}

impl Opt {
    /// The record.
    pub(crate) fn to_wire(&self) -> Vec<u8> {
        let mut data = Vec::new();
        for (code, value) in &self.options {
            data.extend(code.to_be_bytes());
            data.extend((value.len() as u16).to_be_bytes());
            data.extend(value);
        }
        let mut wire = vec![0, 0, 41];
        wire.extend(self.size.to_be_bytes());
        wire.extend([0, self.version]);
        wire.extend(self.flags.to_be_bytes());
        wire.extend((data.len() as u16).to_be_bytes());
        wire.extend(data);
        wire
    }
}
