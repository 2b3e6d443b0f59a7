exec(open('.p.py').read().split("H='core")[0])
s=open('core/tests/reference/line.rs').read()
import re
s=re.sub(r"let Some\(change\) = (self\.gathered\.pop_if\(\|one\| is_change\(one\) && self\.decided_now\)) else \{\s*return None;\s*\};", r"let change = \1?;", s)
open('core/tests/reference/line.rs','w').write(s)
p='core/src/hub/line.rs'
s=open(p).read()
i=s.index("/// Something that a change depends on or alters."); j=s.index("/// A request that waits.")
t=s[i:j].rstrip()+"\n"
s=s[:i]+s[j:]
t=t.replace("enum Touch {","pub(super) enum Touch {").replace("fn touches(record","/// Hands over what a record depends on or alters.\npub(super) fn touches(record")
open('core/src/hub/touch.rs','w').write("//! What a change of the directory depends on or alters.\n\nuse crate::key::PublicKey;\nuse crate::name::{ChannelName, UserName};\nuse crate::protocol::Visibility;\nuse crate::record::{ChannelId, Record, UserId};\n\n"+t)
s=s.replace("use super::live::Session;\n","use super::live::Session;\nuse super::touch::{Touch, touches};\n").replace("use crate::key::PublicKey;\n","").replace("use crate::name::{ChannelName, UserName};","use crate::name::ChannelName;").replace("use crate::protocol::{Admin, Command, Token, Visibility};","use crate::protocol::{Admin, Command, Token};")
open(p,'w').write(s)
sub('core/src/hub/mod.rs',[("mod stream;\n#[cfg(test)]\nmod tests;","mod stream;\n#[cfg(test)]\nmod tests;\nmod touch;")])
