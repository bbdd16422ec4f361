//! Looks up `user[:group]` in the container's own files, by the rules of the engines: a number is always an id, which need
//! not be in the files, and the user's other groups count unless a group is given. This has no system calls.

use crate::protocol::Stage;

/// The most groups of a user. Further ones are left out.
pub const MAX_GROUPS: usize = 1024;

/// A user, with the groups that its processes have.
pub struct User<'a> {
    pub uid: u32,
    pub gid: u32,
    pub home: &'a [u8],
    pub groups: [u32; MAX_GROUPS],
    pub group_count: usize,
}

impl User<'_> {
    fn add_group(&mut self, gid: u32) {
        let known = self.groups[..self.group_count].contains(&gid);
        if !known && self.group_count < MAX_GROUPS {
            self.groups[self.group_count] = gid;
            self.group_count += 1;
        }
    }
}

/// Finds `user[:group]` in the contents of `/etc/passwd` and `/etc/group`, which are empty where there is no file.
pub fn find<'a>(passwd: &'a [u8], group: &[u8], wanted: &[u8]) -> Result<User<'a>, Stage> {
    let mut parts = wanted.splitn(2, |byte| *byte == b':');
    let (user_name, group_name) = (parts.next().unwrap_or(b""), parts.next().unwrap_or(b""));
    let (uid, gid) = (number(user_name), number(group_name));
    let mut user = User {
        uid: 0,
        gid: 0,
        home: b"/",
        groups: [0; MAX_GROUPS],
        group_count: 0,
    };

    let mut name: &[u8] = b"";
    let entry = lines(passwd).find_map(|line| {
        let fields = fields::<7>(line)?;
        let id = number(fields[2])?;
        let found = match uid {
            Some(uid) => id == uid,
            None if user_name.is_empty() => id == 0,
            None => fields[0] == user_name,
        };
        found.then_some((fields, id))
    });
    match entry {
        Some((fields, id)) => {
            name = fields[0];
            user.uid = id;
            user.gid = number(fields[3]).unwrap_or(0);
            user.home = fields[5];
        }
        None if user_name.is_empty() => {}
        None => user.uid = uid.ok_or(Stage::User)?,
    }

    if group_name.is_empty() {
        user.add_group(user.gid);
        if !name.is_empty() {
            for line in lines(group) {
                if let Some([_, _, id, members]) = fields::<4>(line)
                    && let Some(id) = number(id)
                    && members.split(|byte| *byte == b',').any(|member| member == name)
                {
                    user.add_group(id);
                }
            }
        }
    } else {
        let found = lines(group).find_map(|line| {
            let fields = fields::<4>(line)?;
            let id = number(fields[2])?;
            match gid {
                Some(gid) => id == gid,
                None => fields[0] == group_name,
            }
            .then_some(id)
        });
        user.gid = found.or(gid).ok_or(Stage::Group)?;
        user.add_group(user.gid);
    }
    Ok(user)
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n')
}

/// Returns the first N fields of a line, of which missing ones are empty. Returns `None` for an empty line or a comment.
fn fields<const N: usize>(line: &[u8]) -> Option<[&[u8]; N]> {
    let line = line.trim_ascii();
    if line.is_empty() || line[0] == b'#' {
        return None;
    }
    let mut fields: [&[u8]; N] = [b""; N];
    for (field, part) in fields.iter_mut().zip(line.split(|byte| *byte == b':')) {
        *field = part;
    }
    Some(fields)
}

/// Returns the number that a text is, up to the largest id that the kernel takes.
pub fn number(text: &[u8]) -> Option<u32> {
    let id = i32::try_from(long_number(text)?).ok()?;
    Some(id as u32)
}

/// Returns the number that a text is.
#[inline(never)]
pub fn long_number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(digit.into())?;
    }
    Some(value)
}

/// Returns the digits of a number.
#[inline(never)]
pub fn decimal(number: u64, buf: &mut [u8; 20]) -> &[u8] {
    let mut at = buf.len();
    let mut rest = number;
    loop {
        at -= 1;
        buf[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return &buf[at..];
        }
    }
}
