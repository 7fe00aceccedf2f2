//! How reactors reach the aggregates: their commands go the way of every other command.

use annals_commands::{CommandBody, CommandError, CommandRequest, Commands};
use annals_core::{AppendError, Expected};
use annals_projections::{DispatchError, DispatchRequest, Dispatcher};
use tokio::runtime::Handle;

/// Carries out the commands of reactors. Blocks the reactor's thread meanwhile, never the runtime's.
pub(crate) struct CommandDispatcher {
    commands: Commands,
    runtime: Handle,
}

impl CommandDispatcher {
    pub(crate) fn new(commands: Commands, runtime: Handle) -> Self {
        Self { commands, runtime }
    }
}

impl Dispatcher for CommandDispatcher {
    fn dispatch(&self, request: DispatchRequest) -> Result<(), DispatchError> {
        let command = CommandRequest {
            category: request.call.category,
            id: request.call.id,
            command: request.call.command,
            body: CommandBody::MsgPack(request.call.body.into()),
            key: Some(request.key),
            expected: Expected::Any,
            occurred_at: request.occurred_at,
            metadata: request.metadata,
        };
        match self.runtime.block_on(self.commands.execute(command)) {
            Ok(_) => Ok(()),
            Err(CommandError::Rejected(rejection)) => Err(DispatchError::Rejected(rejection)),
            Err(error) if passes(&error) => Err(DispatchError::Unavailable(error.to_string())),
            Err(error) => Err(DispatchError::Failed(error.to_string())),
        }
    }
}

/// Whether an error says nothing about the command, only that it came at the wrong moment.
fn passes(error: &CommandError) -> bool {
    matches!(
        error,
        CommandError::Contended { .. }
            | CommandError::Append(
                AppendError::Overloaded { .. }
                    | AppendError::StorageFull { .. }
                    | AppendError::ClockJumped { .. }
                    | AppendError::ConditionOutrun { .. }
                    | AppendError::Closed(_)
                    | AppendError::OutcomeUnknown(_)
            )
    )
}
