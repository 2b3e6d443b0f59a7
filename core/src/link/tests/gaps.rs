//! No gaps: whatever drops and however the server orders what it may order, each message of others is handed on once
//! and in order.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::super::JoinFrom;
use super::model::{Handed, World, name};
use crate::time::UnixMillis;

/// One step of a world, and a number for it.
type Operation = (u8, u8);

fn run(world: &mut World, operations: &[Operation], alphabet: u8) {
    let mut unique = 0;
    for &(operation, number) in operations {
        let body = if alphabet == 0 {
            unique += 1;
            format!("{unique}")
        } else {
            String::from(char::from(b'a' + number / 4 % alphabet))
        };
        match operation % 32 {
            0..5 => world.post(&name(usize::from(number % 2)), &body, i64::from(number % 3)),
            5..10 => world.deliver(),
            10..15 => world.serve(),
            15..20 => world.reply(),
            20..25 => {
                world.receive();
            }
            25 => world.request(&body),
            26 => world.dialed(),
            27 if number < 40 => world.dial_failed(),
            27 => world.dialed(),
            28 => world.pass(u64::from(number) * 4),
            29 if number < 100 => world.drop_connection(),
            29 => world.settle(),
            30 if number < 40 => {
                let deadline = world.link.next_deadline().map_or(0, |deadline| deadline.0);
                world.pass(deadline.saturating_sub(world.now.mono.0));
            }
            30 => {}
            _ if number < 30 => {
                // Quiet for longer than the retention.
                world.calm(130_000);
                world.calm(700_000);
                world.purge(600_000);
            }
            _ if number < 100 => world.calm(u64::from(number) * 50),
            _ => {}
        }
    }
}

fn operations(most: usize) -> impl Strategy<Value = Vec<Operation>> {
    proptest::collection::vec(any::<Operation>(), 0..most)
}

fn same(handed: &[Handed], posted: &[Handed]) -> Result<(), TestCaseError> {
    prop_assert_eq!(handed.len(), posted.len(), "{:?} of {:?}", handed, posted);
    for (handed, posted) in handed.iter().zip(posted) {
        prop_assert_eq!((&handed.user, &handed.body), (&posted.user, &posted.body));
        prop_assert!(handed.ts.is_none() || handed.ts == posted.ts, "the stamp is the message's own");
    }
    Ok(())
}

/// Whether `part` can be had from `whole` by leaving out.
fn is_part(part: &[Handed], whole: &[Handed]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|part| whole.any(|whole| (&part.user, &part.body) == (&whole.user, &whole.body)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn all_that_is_posted_is_handed_on_once_and_in_order(
        before in 0u8..8,
        alphabet in 0u8..4,
        page in 1usize..5,
        seed in any::<u8>(),
        operations in operations(400),
    ) {
        let mut world = World::new(page, seed);
        for number in 0..before {
            world.post(&name(usize::from(number % 2)), "a", 0);
        }
        world.input(super::super::Input::Start);
        world.join(JoinFrom::Since(UnixMillis(0)));
        run(&mut world, &operations, alphabet);
        world.calm(300_000);
        same(&world.handed, &world.of_others(0))?;
    }

    #[test]
    fn all_that_is_posted_after_a_join_is_handed_on_once_and_in_order(
        before in 0u8..8,
        alphabet in 0u8..4,
        page in 1usize..5,
        seed in any::<u8>(),
        operations in operations(400),
    ) {
        let mut world = World::new(page, seed);
        for number in 0..before {
            world.post(&name(usize::from(number % 2)), "a", i64::from(number < 4) * 1_000_000);
            if number < 4 {
                // Posted long ago.
                world.deliver();
            }
        }
        world.input(super::super::Input::Start);
        world.join(JoinFrom::Live);
        run(&mut world, &operations, alphabet);
        world.calm(300_000);
        let (Some(joined), Some(caught_up)) = (world.joined_at, world.caught_up_at) else {
            return Err(TestCaseError::fail("never joined"));
        };
        // What was posted while the link was joining may be handed on or not; before, not; later, all.
        let certain = world.of_others(caught_up);
        prop_assert!(world.handed.len() >= certain.len(), "{:?} lack of {:?}", world.handed, certain);
        let (early, rest) = world.handed.split_at(world.handed.len() - certain.len());
        same(rest, &certain)?;
        let open = world.of_others(joined);
        prop_assert!(is_part(early, &open[..open.len() - certain.len()]), "{:?} of {:?}", early, open);
    }
}
