-- The last record handled of each partition, by which a topic that was made anew is recognised, however long it is by then.
-- The version before does not write it: it counts only where last_offset is next_offset - 1.
alter table notifier.positions
  add column last_offset bigint,
  add column last_digest bytea,
  -- The latest time of a record handled, by its writer's clock.
  add column told_at timestamptz,
  -- After the topic was made anew: what happened before is no news any more, its notices may even be purged.
  add column news_since timestamptz;
