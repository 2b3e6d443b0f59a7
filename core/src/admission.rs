//! Who may connect at all, before anyone is authenticated: how many at once, in all and from one address, and
//! how often an address may fail.

use alloc::collections::BTreeMap;
use core::net::IpAddr;
use core::time::Duration;

use crate::hub::{Bucket, Rate};
use crate::time::{Monotonic, Now};

/// What bounds connections that are not sessions yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AdmissionLimits {
    /// Such connections in all.
    pub total: usize,
    /// Such connections from one address.
    pub per_address: usize,
    /// Failed authentications of one address. Beyond them, few connections from there may be open at once, and none
    /// registers.
    pub failures: Rate,
    /// Users that one address may register in a day; 0: any number.
    pub registrations: usize,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self { total: 4_096, per_address: 512, failures: Rate::new(1, 60), registrations: 500 }
    }
}

/// Why a connection was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NotAdmitted {
    /// Too many connections are not authenticated yet.
    #[error("too many connections are being opened: try again in a few seconds")]
    Busy,
    /// Too many of this address are not authenticated yet.
    #[error("too many connections are being opened from this address: try again in a few seconds")]
    BusyAddress,
    /// This address failed to authenticate too often, and has as many connections open as it may have then.
    #[error("too many failed authentications from this address: try again in a minute")]
    Failures,
    /// This address registered too many users, or failed to authenticate too often.
    #[error("too many registrations from this address: try again later, or ask the server's operator")]
    Registrations,
}

impl NotAdmitted {
    /// A short, fixed word for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::BusyAddress => "busy_address",
            Self::Failures => "failures",
            Self::Registrations => "registrations",
        }
    }
}

/// Counts connections that are not sessions yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    limits: AdmissionLimits,
    /// Connections whose address a proxy is still to name.
    arriving: usize,
    open: usize,
    addresses: BTreeMap<IpAddr, Address>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Address {
    open: usize,
    failures: Bucket,
    /// Users that it registered, and since when they are counted.
    registered: usize,
    since: Monotonic,
}

impl Address {
    fn is_forgotten(&self, now: Monotonic) -> bool {
        self.open == 0 && self.failures.is_full(now) && (self.registered == 0 || self.since + DAY <= now)
    }
}

/// How long registrations count.
const DAY: Duration = Duration::from_secs(86_400);
/// What is left of an address's open connections after too many failures.
const SUSPECT: usize = 8;
/// Addresses that are remembered for their failures alone.
const MAX_REMEMBERED: usize = 65_536;

impl Admission {
    /// Nobody is there yet.
    pub fn new(limits: AdmissionLimits) -> Self {
        Self { limits, arriving: 0, open: 0, addresses: BTreeMap::new() }
    }

    /// Lets a connection from `address` in, or says why not. Each one let in must be handed to
    /// [`Admission::leave`] once, when it has become a session or has ended.
    ///
    /// # Errors
    /// The bound that it met.
    pub fn enter(&mut self, now: Now, address: IpAddr) -> Result<(), NotAdmitted> {
        if self.open >= self.limits.total {
            return Err(NotAdmitted::Busy);
        }
        if self.addresses.len() >= MAX_REMEMBERED {
            self.forget(now.mono);
        }
        let limits = self.limits;
        let address = self.addresses.entry(group(address)).or_default();
        if address.open >= limits.per_address {
            return Err(NotAdmitted::BusyAddress);
        }
        // Whoever proves a known key comes in, whatever others behind the same address did: they are fewer at once.
        if address.open >= limits.per_address.div_ceil(SUSPECT) && failed_too_often(address, limits, now) {
            return Err(NotAdmitted::Failures);
        }
        address.open += 1;
        self.open += 1;
        Ok(())
    }

    /// Lets a connection arrive whose address a proxy is still to tell, or says why not. Each one must be handed to
    /// [`Admission::named`] once, when its address is known or it has ended. As many may be on the way in as may be in.
    ///
    /// # Errors
    /// There are too many.
    pub fn arrive(&mut self) -> Result<(), NotAdmitted> {
        if self.arriving >= self.limits.total {
            return Err(NotAdmitted::Busy);
        }
        self.arriving += 1;
        Ok(())
    }

    /// The address of a connection that had arrived is known, so that it may enter; or the connection has ended.
    pub fn named(&mut self) {
        self.arriving = self.arriving.saturating_sub(1);
    }

    /// A connection that was let in is a session now, or has ended; `failed` if it could not prove who it is.
    pub fn leave(&mut self, now: Now, address: IpAddr, failed: bool) {
        let address = group(address);
        let Some(entry) = self.addresses.get_mut(&address) else { return };
        self.open = self.open.saturating_sub(1);
        entry.open = entry.open.saturating_sub(1);
        if failed {
            let _ = entry.failures.take(self.limits.failures, now.mono, 1);
        }
        if entry.is_forgotten(now.mono) {
            self.addresses.remove(&address);
        }
    }

    /// Counts a user whom a connection that was let in wants to register, or says why it may not.
    ///
    /// # Errors
    /// The address has registered as many in a day as it may, or failed too often.
    pub fn register(&mut self, now: Now, address: IpAddr) -> Result<(), NotAdmitted> {
        let limits = self.limits;
        let Some(address) = self.addresses.get_mut(&group(address)) else { return Ok(()) };
        if address.registered > 0 && address.since + DAY <= now.mono {
            address.registered = 0;
        }
        let full = limits.registrations > 0 && address.registered >= limits.registrations;
        if full || failed_too_often(address, limits, now) {
            return Err(NotAdmitted::Registrations);
        }
        if address.registered == 0 {
            address.since = now.mono;
        }
        address.registered += 1;
        Ok(())
    }

    fn forget(&mut self, now: Monotonic) {
        self.addresses.retain(|_, address| !address.is_forgotten(now));
        if self.addresses.len() >= MAX_REMEMBERED {
            // Under a flood from everywhere, failures are forgotten before memory grows.
            self.addresses.retain(|_, address| address.open > 0);
        }
    }
}

/// A look, not a withdrawal: only a failure costs.
fn failed_too_often(address: &Address, limits: AdmissionLimits, now: Now) -> bool {
    address.failures.clone().take(limits.failures, now.mono, 1).is_err()
}

/// Whom an address stands for: an IPv6 network of 64 bits is one customer's, who has all of its addresses.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Now {
        Now { mono: Monotonic(millis), ..Now::default() }
    }

    const LIMITS: AdmissionLimits =
        AdmissionLimits { total: 4, per_address: 2, failures: Rate::new(1, 3), registrations: 2 };

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn an_address_and_all_together_are_bounded() {
        let mut admission = Admission::new(LIMITS);
        assert_eq!(admission.enter(at(0), address(1)), Ok(()));
        assert_eq!(admission.enter(at(0), address(1)), Ok(()));
        assert_eq!(admission.enter(at(0), address(1)), Err(NotAdmitted::BusyAddress));
        assert_eq!(admission.enter(at(0), address(2)), Ok(()));
        assert_eq!(admission.enter(at(0), address(2)), Ok(()));
        assert_eq!(admission.enter(at(0), address(3)), Err(NotAdmitted::Busy));
        admission.leave(at(0), address(1), false);
        assert_eq!(admission.enter(at(0), address(3)), Ok(()));
    }

    #[test]
    fn as_many_are_on_the_way_in_as_may_be_in() {
        let mut admission = Admission::new(LIMITS);
        for _ in 0..4 {
            assert_eq!(admission.arrive(), Ok(()));
        }
        assert_eq!(admission.arrive(), Err(NotAdmitted::Busy));
        assert_eq!(admission.enter(at(0), address(1)), Ok(()));
        admission.named();
        assert_eq!(admission.arrive(), Ok(()));
    }

    #[test]
    fn who_fails_too_often_has_few_open_at_once_and_registers_nobody() {
        let mut admission = Admission::new(AdmissionLimits { total: 100, per_address: 16, ..LIMITS });
        for _ in 0..30 {
            assert_eq!(admission.enter(at(1_000), address(1)), Ok(()), "who has a known key still comes in");
            admission.leave(at(1_000), address(1), true);
        }
        assert_eq!(admission.enter(at(1_000), address(1)), Ok(()));
        assert_eq!(admission.register(at(1_000), address(1)), Err(NotAdmitted::Registrations));
        assert_eq!(admission.enter(at(1_000), address(1)), Ok(()));
        assert_eq!(admission.enter(at(1_000), address(1)), Err(NotAdmitted::Failures));
        for _ in 0..16 {
            assert_eq!(admission.enter(at(1_000), address(2)), Ok(()));
        }
        assert_eq!(admission.register(at(2_100), address(1)), Ok(()));
        assert_eq!(admission.enter(at(2_100), address(1)), Ok(()));
    }

    #[test]
    fn an_address_registers_so_many_users_a_day() {
        let mut admission = Admission::new(LIMITS);
        let register = |admission: &mut Admission, time, last| {
            admission.enter(at(time), address(last)).unwrap();
            let registered = admission.register(at(time), address(last));
            admission.leave(at(time), address(last), registered.is_err());
            registered
        };
        let day = 86_400_000;
        assert_eq!(register(&mut admission, 0, 1), Ok(()));
        assert_eq!(register(&mut admission, day / 2, 1), Ok(()));
        assert_eq!(register(&mut admission, day - 1, 1), Err(NotAdmitted::Registrations));
        assert_eq!(register(&mut admission, day - 1, 2), Ok(()));
        assert_eq!(register(&mut admission, day, 1), Ok(()));
    }

    #[test]
    fn a_network_of_64_bits_is_one_address() {
        let mut admission = Admission::new(LIMITS);
        let addresses: [IpAddr; 3] =
            ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(|text| text.parse().unwrap());
        assert_eq!(admission.enter(at(0), addresses[0]), Ok(()));
        assert_eq!(admission.enter(at(0), addresses[1]), Ok(()));
        assert_eq!(admission.enter(at(0), addresses[2]), Err(NotAdmitted::BusyAddress));
    }

    proptest! {
        #[test]
        fn whoever_left_is_not_counted(steps in proptest::collection::vec((0..4u8, any::<bool>(), any::<bool>()), 0..100)) {
            let mut admission = Admission::new(AdmissionLimits { failures: Rate::OFF, ..LIMITS });
            let mut inside = [0usize; 4];
            for (who, enters, failed) in steps {
                if enters {
                    let expected = inside.iter().sum::<usize>() < 4 && inside[usize::from(who)] < 2;
                    prop_assert_eq!(admission.enter(at(0), address(who)).is_ok(), expected);
                    inside[usize::from(who)] += usize::from(expected);
                } else if inside[usize::from(who)] > 0 {
                    inside[usize::from(who)] -= 1;
                    admission.leave(at(0), address(who), failed);
                }
            }
        }
    }
}
