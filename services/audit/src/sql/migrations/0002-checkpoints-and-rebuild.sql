-- The signed checkpoints of the chains. As with the records, the service's role may add and read, nothing else. The
-- primary key decides which of several instances signs the next one.
create table audit.checkpoints (
  sequence bigint primary key check (sequence > 0),
  -- The signed text, as it is published to audit.checkpoints and written to CHECKPOINT_FILE.
  token text not null,
  signed_at timestamptz not null default now()
);

grant select, insert on audit.checkpoints to audit;

-- Which table `audit.records` is: `audit:rebuild -- --swap` puts another one in its place and counts it here. A running
-- service adds records only to the table whose last records it knows, and reads them again when the number has changed.
create table audit.trail (
  one boolean primary key default true check (one),
  incarnation int not null
);
insert into audit.trail (incarnation) values (1);
grant select on audit.trail to audit;
