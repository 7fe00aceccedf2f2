//! What the rounds did, so that a run that left something out is noticed.

/// What was done, so that a run that did not do all of it is noticed.
#[derive(Debug, Default)]
pub struct Done {
    pub appended: u32,
    pub repeated: u32,
    pub refused: u32,
    pub openings: u32,
    pub crashes: u32,
    pub kills: u32,
    pub sealed: u32,
    /// Appends that nobody was told of and that were there after a kill.
    pub unknown_kept: u32,
    /// Appends that nobody was told of and that were gone after a kill.
    pub unknown_lost: u32,
    pub indexes_lost: u32,
    pub indexes_damaged: u32,
    /// Appends that lost against another one.
    pub races_lost: u32,
    pub races_won: u32,
    pub backups: u32,
    pub restores: u32,
    /// Restores after which the log ended before it had ended.
    pub gone_back: u32,
}

impl Done {
    /// Adds what another round did.
    pub fn add(&mut self, other: &Self) {
        self.appended += other.appended;
        self.repeated += other.repeated;
        self.refused += other.refused;
        self.openings += other.openings;
        self.crashes += other.crashes;
        self.kills += other.kills;
        self.sealed += other.sealed;
        self.unknown_kept += other.unknown_kept;
        self.unknown_lost += other.unknown_lost;
        self.indexes_lost += other.indexes_lost;
        self.indexes_damaged += other.indexes_damaged;
        self.races_lost += other.races_lost;
        self.races_won += other.races_won;
        self.backups += other.backups;
        self.restores += other.restores;
        self.gone_back += other.gone_back;
    }

    /// A run in which something never happened proves nothing about it.
    pub fn must_be_all(&self) {
        assert!(self.is_all(), "{self:?}");
    }

    /// Whether everything happened.
    pub fn is_all(&self) -> bool {
        let happened = [
            self.appended,
            self.repeated,
            self.refused,
            self.openings,
            self.crashes,
            self.kills,
            self.sealed,
            self.indexes_lost,
            self.indexes_damaged,
            self.races_lost,
            self.races_won,
            self.backups,
            self.restores,
            self.gone_back,
        ];
        happened.iter().all(|count| *count > 0)
    }
}
