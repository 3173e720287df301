-- As before, by two look-ups of a key at each step in place of a join: no plan that a session keeps from when the tables were
-- small can read more.
create or replace function ledger_api.sequence_at(wallet uuid, moment timestamptz) returns bigint
language plpgsql stable security definer set search_path = '' as $$
declare
  low  bigint := 0;
  high bigint := coalesce((select sequence from ledger.wallets where id = wallet), 0);
  middle bigint;
  transfer uuid;
begin
  while low < high loop
    middle := (low + high + 1) / 2;
    transfer := (select e.transfer_id from ledger.entries e where e.wallet_id = wallet and e.sequence = middle);
    if (select t.decided_at from ledger.transfers t where t.id = transfer) <= moment then
      low := middle;
    else
      high := middle - 1;
    end if;
  end loop;
  return low;
end $$;
