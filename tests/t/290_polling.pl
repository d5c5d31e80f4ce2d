# Without shared_preload_libraries nothing is woken: relays poll, and everything arrives all the same.

use strict;
use warnings;

use Test::More;

use PgTide::Faults;
use PgTide::Wan;

plan skip_all => PgTide::Wan->why_not if PgTide::Wan->why_not;

my $pair = PgTide::Faults->new(preload => 0);
is($_->safe_psql('postgres', 'SELECT tide.preloaded()'), 'f', $_->name . ' does not preload pg_tide')
  for $pair->us, $pair->eu;
$pair->eu->safe_psql('postgres', <<'END');
CREATE TABLE handled (event_id text PRIMARY KEY);
CREATE FUNCTION handle(event_id text, payload jsonb) RETURNS void LANGUAGE sql AS
	'INSERT INTO handled VALUES (event_id)';
SELECT tide.inbox_set_handler('arrivals', 'handle(text, jsonb)');
END
$pair->start_relays;
$pair->start_load;
ok(defined $pair->wait_arrivals($_, 100), "events come to $_") for qw(us eu);
$pair->stop_load;
$pair->verdict('polling');
my $all = $pair->load('us')->count;
$pair->eu->poll_query_until('postgres', "SELECT count(*) = $all FROM handled")
  or diag('handled: ' . $pair->eu->safe_psql('postgres', 'SELECT count(*) FROM handled') . " of $all");
is($pair->eu->safe_psql('postgres', 'SELECT count(*) FROM handled'), $all, 'the handler has handled each once');
is_deeply($pair->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
