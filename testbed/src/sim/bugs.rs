//! Mistakes that can be planted, to prove that the simulation finds them.
//!
//! Each is put where the shells of a node or its disk do their work: the cores themselves run as they are.

/// A planted mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Bug {
    /// What a change holds back leaves when the change is proposed.
    OutputBeforeAcceptance,
    /// A refused change counts as accepted.
    RefusalIgnored,
    /// The disk says that it has synced, and has not.
    FsyncSkipped,
    /// A deposed owner goes on and proposes under the life of its successor.
    EpochUnchecked,
    /// A change is accepted whatever its revision.
    RevisionUnchecked,
    /// A process that starts again calls itself by its predecessor's incarnation.
    IncarnationKept,
    /// The next Ns expected of the peer stays out of the row.
    NrNotReplicated,
    /// The subscriber's interface is let come up before the row is open.
    ConfigureAckEarly,
    /// An open link is left without a word to the table.
    LeavingOpenNotCommitted,
    /// A node that was not the owner's relays what was relayed to it.
    RelayedTwice,
    /// PPP frames leave, however long ago the leader was heard.
    StaleOwnerSpeaks,
    /// The LNS never asks a silent LAC whether it is still there.
    NeverAsks,
    /// A change that nobody answered is not proposed again.
    NoResubmission,
    /// A new owner does not take over what its predecessor had not got acknowledged.
    UnacknowledgedForgotten,
    /// All nodes pick addresses from the same slice, and the table gives them without a look.
    BlockLeasedTwice,
    /// An accounting record is taken off the table, whether the server has received it or not.
    AccountingSettledUnseen,
    /// A Stop says what its present owner knows of the traffic, not what the table says.
    StopsDiffer,
    /// A process that starts does not read what its predecessors and the others have counted.
    CountersForgotten,
    /// Whom a server has let in once is let in again without asking.
    AcceptRemembered,
    /// A subscriber whom a server refuses is let in.
    RejectIgnored,
}
