//! One acceptance suite for any tree of files: black box, through `Filesystem` alone. A service is one by [`Through`].
//!
//! A case is a function over a [`MakeTree`](tree::MakeTree); `suite!` runs all of them on a tree. What a tree must be to be run through is said at
//! [`Limits`](tree::Limits). Numbers such as D3 are those of the list of hostile inputs; each case says which rows it plays.
#![allow(missing_docs, unreachable_pub, reason = "the names of cases say what they show")]

mod attrs;
mod content;
mod depth;
#[path = "../support/far.rs"]
mod far;
mod listings;
mod names;
mod rights;
mod room;
mod through;
mod tree;

use ring9::arena::Arena;
use ring9::fs::Simple;
use ring9::fs::dev::{ATTACH_NAMES as DEV_NAMES, Dev};
use ring9::fs::join::{End, Join};
use ring9::fs::mem::{ATTACH_NAMES as MEM_NAMES, Mem, Options};
use ring9::fs::wrap::{Late, Wrapped};
use ring9::wire::Dialect;
use through::Through;
use tree::Limits;

/// Every case, once per tree.
macro_rules! suite {
    ($tree:ident) => {
        mod $tree {
            suite! { @cases $tree;
                content:
                    nothing_is_read_and_written_at_no_cost
                    reads_at_and_behind_the_end_are_empty
                    no_file_is_larger_than_an_off_t
                    a_byte_far_away_costs_a_page
                    a_hole_of_all_there_is_costs_nothing
                    replies_outlive_a_truncation_whole
                    a_reply_shows_one_version
                    an_abandoned_payload_changes_nothing
                    appenders_never_overlap
                    versions_and_times_change_with_the_content_alone
                    failed_operations_change_nothing
                    old_bytes_never_show;
                names:
                    a_directory_is_never_moved_below_itself
                    replacing_follows_rename_2
                    renaming_onto_itself_changes_nothing
                    what_is_replaced_lives_on_while_it_is_open
                    names_that_nobody_can_make_and_the_way_up
                    the_root_stays
                    an_unlinked_file_is_usable_by_all_who_hold_it
                    symbolic_links_are_not_followed
                    file_values_survive_moves_above_them
                    hard_links_are_names_of_one_file
                    nobody_removes_a_name_that_he_did_not_walk_to
                    numbers_of_files_are_never_used_again
                    a_removed_directory_takes_nothing
                    removing_knows_files_from_directories
                    remove_on_close_acts_once
                    wstat_renames_without_replacing
                    wstat_replaces_where_it_is_asked_to;
                listings:
                    an_empty_directory_ends
                    pages_that_end_on_an_entry_lose_nothing
                    any_cookie_goes_on_behind_itself
                    what_stays_is_listed_once_whatever_comes_and_goes
                    a_replaced_name_is_there_all_the_time
                    who_renames_all_that_he_lists_comes_to_an_end
                    a_reader_that_makes_a_name_for_each_entry_comes_to_an_end
                    a_page_costs_the_same_in_a_large_directory;
                rights:
                    without_a_table_others_have_what_the_group_has
                    with_a_table_group_bits_are_the_members_alone
                    with_a_table_files_are_given_to_groups_of_the_giver_alone
                    set_group_id_needs_a_member
                    files_of_foreign_groups_need_a_member
                    directories_want_search_and_write
                    names_in_a_closed_directory_stay_unknown
                    sticky_directories_keep_names_for_their_owners
                    attributes_are_the_owners_to_change
                    set_id_bits_go_with_a_change_of_content_or_owner
                    what_is_refused_or_changes_nothing_has_no_effect
                    set_gid_directories_pass_their_group_on
                    an_open_file_keeps_its_rights
                    nodes_are_stored_and_never_opened
                    append_only_and_exclusive_files;
                room:
                    files_are_counted_before_anything_changes
                    further_names_count
                    bytes_run_out_before_anything_changes
                    a_request_that_almost_fits_takes_nothing
                    targets_take_room
                    the_free_room_is_there
                    times_have_nanoseconds
                    reads_move_access_times_once_after_a_change_and_once_a_day;
                attrs:
                    values_are_whole_and_go_with_their_file
                    attributes_are_made_and_replaced_as_asked
                    spaces_of_names_have_their_owners
                    capabilities_go_with_a_change_of_content_or_owner
                    attributes_have_bounds
                    locks_exclude_others_until_they_are_closed
                    a_conflict_of_an_unknown_kind_is_none_with_shared_locks_of_the_same_peer;
                depth:
                    a_hundred_thousand_directories_are_built_and_removed
                    a_hundred_thousand_directories_are_dropped_on_a_small_stack;
            }
        }
    };
    (@cases $tree:ident; $($module:ident: $($case:ident)*;)*) => {
        $($(
            #[test]
            fn $case() {
                crate::$module::$case(crate::$tree);
            }
        )*)*
    };
}

suite!(mem);
suite!(mem_before_dev);
suite!(dev_before_mem);
suite!(late);
suite!(later);

/// The cases that a tree behind a connection of 9P2000.L passes. The others look at what that dialect does not carry: names of
/// files but in listings, exclusive and append-only files, opens for execution, groups of users, locks of several peers of
/// the far server; at its memory; or at a hundred thousand directories.
mod through_a_relay {
    suite! { @cases relay;
        content:
            nothing_is_read_and_written_at_no_cost
            reads_at_and_behind_the_end_are_empty
            no_file_is_larger_than_an_off_t
            a_byte_far_away_costs_a_page
            a_hole_of_all_there_is_costs_nothing
            replies_outlive_a_truncation_whole
            a_reply_shows_one_version
            an_abandoned_payload_changes_nothing
            versions_and_times_change_with_the_content_alone
            old_bytes_never_show;
        names:
            a_directory_is_never_moved_below_itself
            replacing_follows_rename_2
            renaming_onto_itself_changes_nothing
            what_is_replaced_lives_on_while_it_is_open
            the_root_stays
            an_unlinked_file_is_usable_by_all_who_hold_it
            symbolic_links_are_not_followed
            hard_links_are_names_of_one_file
            numbers_of_files_are_never_used_again
            a_removed_directory_takes_nothing
            removing_knows_files_from_directories;
        listings:
            an_empty_directory_ends
            pages_that_end_on_an_entry_lose_nothing
            any_cookie_goes_on_behind_itself
            what_stays_is_listed_once_whatever_comes_and_goes
            a_replaced_name_is_there_all_the_time;
        rights:
            with_a_table_files_are_given_to_groups_of_the_giver_alone
            names_in_a_closed_directory_stay_unknown
            set_id_bits_go_with_a_change_of_content_or_owner
            set_gid_directories_pass_their_group_on
            an_open_file_keeps_its_rights;
        room:
            files_are_counted_before_anything_changes
            further_names_count
            bytes_run_out_before_anything_changes
            a_request_that_almost_fits_takes_nothing
            targets_take_room
            times_have_nanoseconds
            reads_move_access_times_once_after_a_change_and_once_a_day;
        attrs:
            values_are_whole_and_go_with_their_file
            attributes_are_made_and_replaced_as_asked
            spaces_of_names_have_their_owners
            capabilities_go_with_a_change_of_content_or_owner
            attributes_have_bounds
            locks_exclude_others_until_they_are_closed;
    }
}

/// The same of 9P2000.u, which has neither attributes nor locks, and renames within a directory.
mod through_a_relay_in_u {
    suite! { @cases relay_in_u;
        content:
            nothing_is_read_and_written_at_no_cost
            reads_at_and_behind_the_end_are_empty
            replies_outlive_a_truncation_whole
            a_reply_shows_one_version
            an_abandoned_payload_changes_nothing
            old_bytes_never_show;
        names:
            symbolic_links_are_not_followed
            numbers_of_files_are_never_used_again
            removing_knows_files_from_directories;
        listings:
            pages_that_end_on_an_entry_lose_nothing
            any_cookie_goes_on_behind_itself;
        rights:
            set_id_bits_go_with_a_change_of_content_or_owner
            an_open_file_keeps_its_rights;
        room:
            further_names_count
            bytes_run_out_before_anything_changes
            a_request_that_almost_fits_takes_nothing
            targets_take_room;
    }
}

/// The same of 9P2000, which has no links and no special files either, and replaces no name.
mod through_a_relay_in_p9 {
    suite! { @cases relay_in_p9;
        content:
            nothing_is_read_and_written_at_no_cost
            reads_at_and_behind_the_end_are_empty
            replies_outlive_a_truncation_whole
            a_reply_shows_one_version
            an_abandoned_payload_changes_nothing
            old_bytes_never_show;
        listings:
            pages_that_end_on_an_entry_lose_nothing
            any_cookie_goes_on_behind_itself;
        room:
            bytes_run_out_before_anything_changes
            a_request_that_almost_fits_takes_nothing;
    }
}

fn mem(limits: &Limits) -> Mem {
    let options = Options {
        inodes_max: limits.files,
        hash_key: 7,
        root: (0, 0, 0o777),
        groups: limits.groups.map(|pairs| pairs.iter().copied().collect()),
        ..Options::default()
    };
    Mem::new(Arena::new(limits.bytes).expect("a small mapping"), options)
}

fn dev() -> Dev {
    Dev::new(Arena::new(0).expect("a small mapping").zeros(), [7; 32])
}

/// Two trees, in this order.
type Two<A, B> = Join<Simple<A>, Join<Simple<B>, End>>;

/// A join passes everything through to the tree in front.
fn mem_before_dev(limits: &Limits) -> Through<Two<Mem, Dev>> {
    Join::new((MEM_NAMES, mem(limits).into()), Join::new((DEV_NAMES, dev().into()), End)).into()
}

/// And to the tree behind.
fn dev_before_mem(limits: &Limits) -> Through<Two<Dev, Mem>> {
    Join::new((DEV_NAMES, dev().into()), Join::new((MEM_NAMES, mem(limits).into()), End)).into()
}

/// Calls and answers come late, and answers have gates.
fn late(limits: &Limits) -> Through<Wrapped<Simple<Mem>, Late>> {
    Through::late(mem(limits).into(), 1)
}

/// By another seed, within more turns.
fn later(limits: &Limits) -> Through<Wrapped<Simple<Mem>, Late>> {
    Through::late(mem(limits).into(), 3)
}

#[test]
fn a_file_of_a_tree_that_is_not_there_is_none() {
    use ring9::fs::{At, Error, FileId, Filesystem};
    let mut service: Through<End> = End.into();
    assert_eq!(service.attach(tree::ROOT, b"").err(), Some(Error::ENOENT));
    assert_eq!(service.close(FileId::NONE, At::default()), Err(Error::EBADF));
}

/// A tree behind a connection of this dialect.
fn behind(limits: &Limits, dialect: Dialect) -> Through<far::Relayed<Simple<Mem>>> {
    let mut far = far::Far::new(mem(limits).into(), 1);
    (far.msize, far.piece_max, far.dialect) = (4 << 20, 4 << 20, dialect);
    far::Relayed::new(far).into()
}

fn relay(limits: &Limits) -> Through<far::Relayed<Simple<Mem>>> {
    behind(limits, Dialect::L)
}

fn relay_in_u(limits: &Limits) -> Through<far::Relayed<Simple<Mem>>> {
    behind(limits, Dialect::U)
}

fn relay_in_p9(limits: &Limits) -> Through<far::Relayed<Simple<Mem>>> {
    behind(limits, Dialect::P9)
}

/// F10: two trees are two file systems.
#[test]
fn nothing_moves_between_joined_trees() {
    use ring9::fs::{Error, Filesystem, Make};
    let limits = Limits::default();
    let behind = Join::new((&[b"/"], Simple::from(mem(&limits))), End);
    let mut trees = Through::from(Join::new((&[b""], Simple::from(mem(&limits))), behind));
    let at = ring9::fs::At::default();
    let (a, b) = (trees.attach(tree::ROOT, b"").expect("a tree"), trees.attach(tree::ROOT, b"/").expect("a tree"));
    trees.make(&a, b"f", Make::File, 0o644, None, at).expect("a new name");
    let mut file = trees.lookup(&a, b"f").expect("just made");
    assert_eq!(trees.link(&b, b"f", &file, at), Err(Error::EXDEV));
    assert_eq!(trees.rename(&a, b"f", &b, b"f", at), Err(Error::EXDEV));
    assert_eq!(trees.rename_file(&mut file, &b, b"f", at), Err(Error::EXDEV));
    for file in [a, b, file] {
        trees.close(file, at).expect("nothing to do");
    }
}
