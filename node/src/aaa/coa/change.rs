//! What a request wants changed (RFC 5176 §3.2, §3.3): all of it or nothing.
//!
//! An attribute that is there replaces all values that the session had of it; one that is not leaves them. Rates stand for themselves
//! whatever attribute brings them, so a Filter-Id with a rate leaves the filters alone, and one with a name the rates.

use super::answer::{ErrorCause, Refusal};
use super::identify::identifies;
use crate::aaa::profile::Service;
use crate::aaa::radius::dictionary::{FRAMED_PROTOCOL_PPP, attribute, service_type};
use crate::aaa::radius::error::name;
use crate::aaa::radius::packet::ATTRIBUTE_HEADER;
use crate::aaa::radius::reply::SHORTEST_INTERIM_S;
use crate::aaa::radius::{Attribute, Packet, WrongValue, filter_rules, rate, vendors};
use crate::lns::change::Change;

/// Filters that a session may have; a request with more is refused.
const FILTERS_MAX: usize = 16;

/// Class attributes that a session may have; a request with more is refused.
const CLASSES_MAX: usize = 16;

/// Octets of a Vendor-Specific attribute before the vendor's own ones: who that is.
const VENDOR_NUMBER: usize = 4;

/// What is in every request and changes nothing.
fn is_of_the_packet(kind: u8) -> bool {
    matches!(
        kind,
        attribute::STATE
            | attribute::PROXY_STATE
            | attribute::EVENT_TIMESTAMP
            | attribute::MESSAGE_AUTHENTICATOR
            | attribute::REPLY_MESSAGE
    )
}

/// What a CoA-Request wants.
pub fn of_coa(packet: &Packet<'_>) -> Result<Change, Refusal> {
    let mut draft = Draft::default();
    let about = |a: &Attribute<'_>| !identifies(a.kind) && !is_of_the_packet(a.kind);
    for a in packet.attributes().filter(about) {
        draft.take(&a)?;
    }
    let mut change = draft.finish();
    let rules = filter_rules::rules(packet).map_err(Refusal::value)?;
    change.rules = Some(rules).filter(|rules| !rules.is_empty());
    if change.is_empty() {
        let why = "no attribute says what is to change";
        return Err(Refusal::new(ErrorCause::MissingAttribute, why));
    }
    Ok(change)
}

/// What a Disconnect-Request wants changed before the end: the classes that the Stop is to bear, if it names any.
pub fn of_disconnect(packet: &Packet<'_>) -> Result<Change, Refusal> {
    let mut draft = Draft::default();
    for a in packet.attributes() {
        match a.kind {
            attribute::CLASS => draft.take(&a)?,
            attribute::ACCT_TERMINATE_CAUSE => {}
            kind if identifies(kind) || is_of_the_packet(kind) => {}
            _ => return Err(unsupported(&a)),
        }
    }
    Ok(draft.finish())
}

fn unsupported(a: &Attribute<'_>) -> Refusal {
    let inside = a.of_vendor().next().unwrap_or(*a);
    let why = format!("{} cannot be changed", name(inside.kind, inside.vendor));
    Refusal::new(ErrorCause::UnsupportedAttribute, why)
}

#[derive(Default)]
struct Draft {
    change: Change,
    /// What is not said is zero or empty here, which no attribute can say.
    service: Service,
}

impl Draft {
    fn take(&mut self, a: &Attribute<'_>) -> Result<(), Refusal> {
        match a.kind {
            attribute::VENDOR_SPECIFIC => self.take_vendors(a),
            attribute::SERVICE_TYPE => match a.u32().map_err(Refusal::value)? {
                service_type::FRAMED => Ok(()),
                _ => {
                    let why = "the Service-Type is none of ours";
                    Err(Refusal::new(ErrorCause::UnsupportedService, why))
                }
            },
            _ => match self.take_standard(a) {
                Ok(true) => Ok(()),
                Ok(false) => Err(unsupported(a)),
                Err(wrong) => Err(Refusal::value(wrong)),
            },
        }
    }

    /// Every attribute inside must be one that is known; so there must be one, and no octet behind the last.
    fn take_vendors(&mut self, a: &Attribute<'_>) -> Result<(), Refusal> {
        let mut read = VENDOR_NUMBER;
        for inside in a.of_vendor() {
            match vendors::service(&mut self.service, &inside) {
                Ok(true) if self.service.filters.len() > FILTERS_MAX => {
                    return Err(Refusal::value(inside.wrong("a session may have 16")));
                }
                Ok(true) => read += ATTRIBUTE_HEADER + inside.value.len(),
                Ok(false) => return Err(unsupported(a)),
                Err(wrong) => return Err(Refusal::value(wrong)),
            }
        }
        match read > VENDOR_NUMBER && read == a.value.len() {
            true => Ok(()),
            false => Err(unsupported(a)),
        }
    }

    fn take_standard(&mut self, a: &Attribute<'_>) -> Result<bool, WrongValue> {
        let change = &mut self.change;
        match a.kind {
            attribute::FRAMED_PROTOCOL => {
                if a.u32()? != FRAMED_PROTOCOL_PPP {
                    return Err(a.wrong("must be PPP"));
                }
            }
            attribute::SESSION_TIMEOUT => change.session_timeout_s = Some(a.u32()?),
            attribute::IDLE_TIMEOUT => change.idle_timeout_s = Some(a.u32()?),
            attribute::ACCT_INTERIM_INTERVAL => {
                change.interim_interval_s = Some(match a.u32()? {
                    0 => 0,
                    interval => interval.max(SHORTEST_INTERIM_S),
                });
            }
            attribute::CLASS => {
                let classes = change.classes.get_or_insert_default();
                classes.push(a.value.to_vec());
                if classes.len() > CLASSES_MAX {
                    return Err(a.wrong("a session may have 16"));
                }
            }
            // Read from all of its instances at once.
            attribute::NAS_FILTER_RULE => {}
            attribute::FILTER_ID => {
                let text = a.text()?;
                if !rate::filter_id(&mut self.service, a, text)? {
                    self.service.filters.push(text.to_owned());
                }
                if self.service.filters.len() > FILTERS_MAX {
                    return Err(a.wrong("a session may have 16"));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish(self) -> Change {
        let Service {
            policy,
            rate_up,
            rate_down,
            burst_up,
            burst_down,
            filters,
            ..
        } = self.service;
        let said = |rate| Some(rate).filter(|rate| *rate > 0);
        Change {
            policy: Some(policy).filter(|policy| !policy.is_empty()),
            filters: Some(filters).filter(|filters| !filters.is_empty()),
            rate_up: said(rate_up),
            rate_down: said(rate_down),
            // A burst is its rate's: a new rate without one has what it implies.
            burst_up: said(rate_up).map(|_| burst_up),
            burst_down: said(rate_down).map(|_| burst_down),
            ..self.change
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aaa::radius::Builder;
    use crate::aaa::radius::dictionary::Code;

    fn ask(
        read: fn(&Packet<'_>) -> Result<Change, Refusal>,
        fill: impl FnOnce(&mut Builder),
    ) -> Result<Change, ErrorCause> {
        let mut builder = Builder::new(Code::COA_REQUEST, 1);
        builder
            .text(1, "bob")
            .octets(33, b"p")
            .octets(24, b"s")
            .u32(55, 7)
            .u32(5, 9);
        fill(&mut builder);
        let octets = builder.finish_request(b"s").expect("it fits");
        let packet = Packet::parse(&octets).expect("well-formed");
        read(&packet).map_err(|refusal| refusal.cause)
    }

    fn coa(fill: impl FnOnce(&mut Builder)) -> Result<Change, ErrorCause> {
        ask(of_coa, fill)
    }

    fn rates(up: u64, down: u64) -> Change {
        let said = |rate| Some(rate).filter(|rate| *rate > 0);
        Change {
            rate_up: said(up),
            rate_down: said(down),
            burst_up: said(up).map(|_| 0),
            burst_down: said(down).map(|_| 0),
            ..Change::default()
        }
    }

    #[test]
    fn every_attribute_that_can_change() {
        let change = coa(|b| {
            b.u32(27, 3600).u32(28, 0).u32(85, 5).u32(6, 2).u32(7, 1);
            b.octets(25, b"gold")
                .octets(25, b"\x00\x01")
                .text(11, "garden")
                .text(11, "no-smtp")
                .text(92, "deny in ip from any to any");
            b.vendor(4874, 26, b"slow");
        });
        let expected = Change {
            policy: Some("slow".to_owned()),
            filters: Some(vec!["garden".to_owned(), "no-smtp".to_owned()]),
            rules: Some(vec!["deny in ip from any to any".to_owned()]),
            session_timeout_s: Some(3600),
            idle_timeout_s: Some(0),
            interim_interval_s: Some(60),
            classes: Some(vec![b"gold".to_vec(), vec![0, 1]]),
            ..Change::default()
        };
        assert_eq!(change, Ok(expected));
    }

    #[test]
    fn rates_in_every_form() {
        let million = 1_000_000;
        assert_eq!(
            coa(|b| _ = b.text(11, "20M/5M")),
            Ok(rates(5 * million, 20 * million))
        );
        assert_eq!(
            coa(|b| _ = b.vendor(14122, 8, &2_000_000_u32.to_be_bytes())),
            Ok(rates(0, 2 * million))
        );
        assert_eq!(
            coa(|b| _ = b.vendor(14988, 8, b"1M/2M")),
            Ok(rates(million, 2 * million))
        );
        let command = b"lcp:interface-config#1=rate-limit input 3000000 9000";
        let change = coa(|b| _ = b.vendor(9, 1, command)).map(|change| (change.rate_up, change.burst_up));
        assert_eq!(change, Ok((Some(3 * million), Some(9000))));
    }

    #[test]
    fn filters_in_the_words_of_vendors() {
        let filters = |change: Result<Change, _>| change.map(|change| change.filters);
        let garden = Ok(Some(vec!["garden".to_owned()]));
        assert_eq!(
            filters(coa(
                |b| _ = b.vendor(4874, 10, b"garden").vendor(4874, 11, b"garden")
            )),
            garden
        );
        assert_eq!(filters(coa(|b| _ = b.vendor(9, 57, b"garden"))), garden);
        let many = coa(|b| {
            for number in 0..17 {
                b.vendor(9, 57, format!("acl-{number}").as_bytes());
            }
        });
        assert_eq!(many, Err(ErrorCause::InvalidAttributeValue));
    }

    /// One attribute that can be changed and one that nobody knows: nothing is.
    #[test]
    fn s_158_one_unknown_attribute_refuses_all() {
        let unknown = Err(ErrorCause::UnsupportedAttribute);
        assert_eq!(coa(|b| _ = b.u32(27, 60).octets(200, b"x")), unknown);
        assert_eq!(coa(|b| _ = b.octets(200, b"x").u32(27, 60)), unknown);
        assert_eq!(coa(|b| _ = b.u32(27, 60).vendor(99_999, 1, b"x")), unknown);
        assert_eq!(
            coa(|b| _ = b.u32(27, 60).vendor(9, 1, b"ip:inacl#1=deny")),
            unknown
        );
        assert_eq!(
            coa(|b| _ = b.u32(27, 60).octets(26, &[0, 0, 1, 55, 1, 0])),
            unknown,
            "no usual form"
        );
        // Addresses are given when the session opens.
        assert_eq!(coa(|b| _ = b.u32(27, 60).text(88, "other-pool")), unknown);
        let known = [&[0, 0, 0x37, 0x2a, 8, 6][..], &2_000_000_u32.to_be_bytes()].concat();
        let with = |tail: &[u8]| coa(|b| _ = b.octets(26, &[&known, tail].concat()));
        assert!(with(&[]).is_ok());
        // Another attribute, and what is none: without a length, longer than there is room, without a value.
        for tail in [&[77, 3, 1][..], &[77], &[77, 9, 1], &[77, 2]] {
            assert_eq!(with(tail), unknown, "{tail:?}");
        }
    }

    #[test]
    fn what_cannot_be_meant() {
        let wrong = Err(ErrorCause::InvalidAttributeValue);
        assert_eq!(coa(|b| _ = b.octets(27, &[1])), wrong);
        assert_eq!(coa(|b| _ = b.u32(7, 2)), wrong);
        assert_eq!(coa(|b| _ = b.text(11, "0/0")), wrong, "no rate");
        assert_eq!(coa(|b| _ = b.vendor(14122, 7, &[0; 4])), wrong);
        assert_eq!(coa(|b| _ = b.octets(11, b"\xff")), wrong);
        assert_eq!(coa(|b| (0..17).for_each(|_| _ = b.text(11, "f"))), wrong);
        assert_eq!(coa(|b| (0..17).for_each(|_| _ = b.text(25, "c"))), wrong);
        assert_eq!(coa(|b| _ = b.u32(6, 17)), Err(ErrorCause::UnsupportedService));
        assert_eq!(coa(|b| _ = b.u32(6, 1)), Err(ErrorCause::UnsupportedService));
        assert_eq!(coa(|_| ()), Err(ErrorCause::MissingAttribute));
    }

    #[test]
    fn a_disconnect_names_a_session_and_at_most_classes() {
        let ask = |fill: fn(&mut Builder)| ask(of_disconnect, fill);
        assert_eq!(ask(|b| _ = b.u32(49, 6).text(18, "bye")), Ok(Change::default()));
        let classes = ask(|b| _ = b.text(25, "last")).map(|change| change.classes);
        assert_eq!(classes, Ok(Some(vec![b"last".to_vec()])));
        assert_eq!(ask(|b| _ = b.u32(27, 60)), Err(ErrorCause::UnsupportedAttribute));
        assert_eq!(
            ask(|b| _ = b.u32(6, 17)),
            Err(ErrorCause::UnsupportedAttribute),
            "405 is never for a Disconnect"
        );
    }
}
