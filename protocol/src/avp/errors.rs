//! Line errors and the async control character map: the values of WEN and SLI (RFC 2661 §4.4.6).

/// Call Errors: counted since the call began, never reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallErrors {
    /// Frames with a wrong CRC.
    pub crc: u32,
    /// Framing errors.
    pub framing: u32,
    /// Overruns of the hardware.
    pub hardware_overruns: u32,
    /// Overruns of buffers.
    pub buffer_overruns: u32,
    /// Timeouts.
    pub timeouts: u32,
    /// Alignment errors.
    pub alignment: u32,
}

impl CallErrors {
    pub(crate) fn value(&self) -> Vec<u8> {
        let counters = [
            self.crc,
            self.framing,
            self.hardware_overruns,
            self.buffer_overruns,
            self.timeouts,
            self.alignment,
        ];
        let mut value = vec![0, 0];
        value.extend(counters.iter().flat_map(|counter| counter.to_be_bytes()));
        value
    }

    pub(crate) fn from_value(value: &[u8]) -> Option<Self> {
        let counter = |index: usize| dword(value, 2 + 4 * index);
        Some(Self {
            crc: counter(0)?,
            framing: counter(1)?,
            hardware_overruns: counter(2)?,
            buffer_overruns: counter(3)?,
            timeouts: counter(4)?,
            alignment: counter(5)?,
        })
    }
}

/// Async control character map, as the LAC shall use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accm {
    /// Characters that the LAC escapes when it sends.
    pub send: u32,
    /// Characters that the LAC drops when it receives.
    pub receive: u32,
}

impl Accm {
    pub(crate) fn value(&self) -> Vec<u8> {
        let mut value = vec![0, 0];
        value.extend_from_slice(&self.send.to_be_bytes());
        value.extend_from_slice(&self.receive.to_be_bytes());
        value
    }

    pub(crate) fn from_value(value: &[u8]) -> Option<Self> {
        Some(Self {
            send: dword(value, 2)?,
            receive: dword(value, 6)?,
        })
    }
}

fn dword(value: &[u8], at: usize) -> Option<u32> {
    let (dword, _) = value.get(at..)?.split_first_chunk::<4>()?;
    Some(u32::from_be_bytes(*dword))
}
