//! The extension module `remuda._native`: exports only.
//!
//! * [`channel`]: the worker's end of its channel, over [`inbox`] (what comes), [`outbox`] (what
//!   goes) and [`room`] (waiting to send).
//! * [`request`]: one claimed request.
//! * [`wsgi`]: the WSGI gateway.
//! * [`asgi`]: the ASGI gateway.
//! * [`gather`]: requests with whole bodies on an event loop.
//! * [`router`]: being the router.
//! * [`privileges`]: giving up what a process might gain.
//! * [`stacks`]: the memory of greenlets.
//! * [`fork`]: whether this process is the one that it was.
//! * [`probe`]: the router's end, for tests and benchmarks of workers.
//!
//! Two rules keep threads and greenlets apart. No lock is held while Python code may run, because
//! it may switch to another thread or greenlet that wants the same lock. And whoever blocks
//! releases the GIL first, or calls what the event loop gave us to wait with.

mod asgi;
mod channel;
mod errors;
mod fork;
mod gather;
mod inbox;
mod notices;
mod outbox;
mod privileges;
mod probe;
mod request;
mod room;
mod router;
mod stacks;
mod text;
mod wsgi;

use pyo3::prelude::*;

/// What Python sees of the Rust side.
#[pymodule(gil_used = true)]
mod _native {
    use super::*;

    #[pymodule_export]
    use crate::asgi::{Asgi, Awaited, Exchange, Sent};
    #[pymodule_export]
    use crate::channel::{Channel, Event, channel_files};
    #[pymodule_export]
    use crate::gather::Gather;
    #[pymodule_export]
    use crate::privileges::no_new_privileges;
    #[pymodule_export]
    use crate::probe::RouterEnd;
    #[pymodule_export]
    use crate::request::Request;
    #[pymodule_export]
    use crate::router::{route, router_option_names};
    #[pymodule_export]
    use crate::stacks::keep_stacks;
    #[pymodule_export]
    use crate::wsgi::{FileWrapper, Input, Response, Wsgi};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        module.add("Retired", py.get_type::<crate::errors::Retired>())?;
        module.add("ClientGone", py.get_type::<crate::errors::ClientGone>())?;
        module.add("ChannelError", py.get_type::<crate::errors::ChannelError>())?;
        Ok(())
    }
}
