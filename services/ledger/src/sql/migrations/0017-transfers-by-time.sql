-- Staff list transfers of all users by time. Rows are added in about that order and never move: an index of ranges costs
-- almost nothing to write, and finds a period's pages.
create index transfers_by_time on ledger.transfers using brin (decided_at)
  with (pages_per_range = 16, autosummarize = on);
