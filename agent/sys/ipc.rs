//! Objects of System V, which outlive the processes that made them.

use super::call::{call, nr, raw};
use super::process::{hide, uid};
use super::{Errno, Result};

/// A kind of object of System V.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Object {
    Memory,
    Semaphores,
    Messages,
}

/// Removes an object, if need be as its owner: root may not without `CAP_SYS_ADMIN`.
pub fn remove_object(object: Object, id: i32, owner: u32) -> Result<()> {
    match remove(object, id) {
        Err(Errno::PERM) => {
            act_as(owner)?;
            let removed = remove(object, id);
            act_as(uid())?;
            // A change of user may have opened this memory.
            hide();
            removed
        }
        removed => removed,
    }
}

fn remove(object: Object, id: i32) -> Result<()> {
    const IPC_RMID: i32 = 0;
    let (call, args) = match object {
        Object::Memory => (nr::SHMCTL, [id, IPC_RMID, 0, 0]),
        Object::Semaphores => (nr::SEMCTL, [id, 0, IPC_RMID, 0]),
        Object::Messages => (nr::MSGCTL, [id, IPC_RMID, 0, 0]),
    };
    // SAFETY: this operation reads and writes no memory of this process.
    unsafe { raw(call, &args.map(|arg| arg as usize)) }.map(drop)
}

/// Has the kernel judge this process's rights as those of a user. The process can go back, since its real user stays.
fn act_as(user: u32) -> Result<()> {
    call!(SETRESUID, -1i32, user, -1i32).map(drop)
}
