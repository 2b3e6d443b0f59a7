exec(open('.p.py').read().split("H='core")[0])
sub('tests/tests/teeth.rs',[
('''        "hub/commit.rs",
        "self.gathering.change = Some(change);",
        "change.records.iter().for_each(|record| self.directory.apply(record));\\n        self.gathering.change = Some(change);",
''','''        "hub/line.rs",
        "self.gathering.changes.push(change);",
        "change.records.iter().for_each(|record| self.directory.apply(record));\\n        self.gathering.changes.push(change);",
'''),
('''        "hub/decide.rs",
        "Command::Post { .. } | Command::Stream(StreamCommand::Post { .. }) => true,",
        "Command::Post { .. } | Command::Stream(StreamCommand::Post { .. }) => false,",
''','''        "hub/line.rs",
        "self.is_subscribed(conn, channel) && self.line.bars(user, channel)",
        "self.is_subscribed(conn, channel) && self.line.bars(user, channel) && false",
''')])
sub('DESIGN.md',[("""2. **One change of the directory is undecided at a time.** What would need a record behind it waits in line until it
   is durable; what needs none is answered from the durable state. A change costs one commit, so this bounds changes
   (not posts) to one per fsync. An undo log or persistent maps would lift that bound and were not worth their weight:
   an fsync takes tens of microseconds, and directories change rarely.
""","""2. **Changes of the directory that are undecided do not touch each other.** Each is decided against the durable state;
   what depends on another (the same channel, user, name or key) waits until that one is durable. Each touches its asker,
   so that a user has one change in a commit, and a commit holds the changes of many users. Those who wait take turns by
   user, and posts wait only for a change that decides whether they may be made (`core/src/hub/line.rs`): a user who asks
   for a thousand changes delays that user.
"""),
("| what happens at a commit, what waits for it | `core/src/hub/commit.rs` |","| what happens at a commit | `core/src/hub/commit.rs` |\n| which changes share a commit, who waits, whose turn it is | `core/src/hub/line.rs` |"),
])
sub('CHANGELOG.md',[("- A user who repeats an operation no longer fills","- Posts no longer wait behind changes of channels, members and users, and those share commits: a user who asked for many\n  of them held everyone up. Each user has one change in a commit, and users take turns.\n- A user who repeats an operation no longer fills")])
sub('tests/COVERAGE.md',[("| Only a trusted proxy names an address |","| What one user asks for too much delays that user: posts do not wait behind changes, and changes take turns by user | `hub/fair:a_post_does_not_wait_behind_changes_that_others_ask_for`, `hub/fair:nobody_waits_for_what_one_greedy_user_asks`, `hub/fair:who_wants_to_change_the_same_channel_takes_turns` |\n| Only a trusted proxy names an address |")])
