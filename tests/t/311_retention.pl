# Retention while the relay runs: segments turn and are emptied, nothing unconfirmed goes, and nothing dies slowly:
# no dead tuples in segments and position tables although a snapshot is held open all the time.
#
# Runs alone: a publisher may not wait for two seconds.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep time);

use PgTide::Duo;
use PgTide::Test qw(wait_until);

my $SECONDS = 8;
my $duo = PgTide::Duo->new(conf => "autovacuum = off\n");
my $published = 0;

sub publish
{
	my ($count) = @_;
	$duo->sql('us', sprintf q{SELECT count(tide.outbox_publish(o, 'e', jsonb_build_object('n', n), '{}', 'k' || n %% 3))
		FROM unnest(ARRAY['straight', 'nats']) o, generate_series(%d, %d) n}, $published + 1, $published + $count);
	$published += $count;
	return;
}

# Tuples that are dead, exactly, in all tables that turn.
sub dead_tuples
{
	return $duo->sql('us', q{SELECT string_agg(c.relname || ' ' || dead_tuple_count, ', ') FROM pg_class c, LATERAL pgstattuple(c.oid)
		WHERE relnamespace = 'tide'::regnamespace AND relkind = 'r' AND relname ~ '^(outbox_\d+_\d|position_\d)$' AND dead_tuple_count > 0});
}

sub held
{
	my ($outbox) = @_;
	return $duo->sql('us', "SELECT count(*) FROM tide.${outbox}_outbox");
}

sub arrived_in_order
{
	my ($inbox, $name) = @_;
	is($duo->sql('eu', "SELECT count(*), count(DISTINCT event_id) FROM tide.${inbox}_inbox"), "$published|$published", "$name: all arrived, once");
	is($duo->sql('eu', "SELECT count(*) FROM (SELECT seq < lag(seq) OVER (PARTITION BY key ORDER BY (payload ->> 'n')::int) AS back FROM tide.${inbox}_inbox) s WHERE back"),
		0, '... in order per key');
	return;
}

sub test_flow
{
	# The snapshot that would keep every dead tuple: taken before all that follows, with a transaction id of its own.
	my $holder = $duo->node->background_psql('us');
	$holder->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$holder->query_safe('SELECT pg_current_xact_id()');

	my (%segments, $most, $until) = ();
	$most = 0;
	$until = time + $SECONDS;
	while (time < $until)
	{
		publish(100);
		$segments{$_}++ for split /\n/, $duo->sql('us', 'SELECT name || segment FROM tide.outbox');
		my $now = held('straight');
		$most = $now if $now > $most;
		sleep 0.1;
	}
	note "published $published, at most $most were held at once";
	is(scalar keys %segments, 6, 'all segments of both outboxes were written in turn');
	ok(defined $duo->wait_count('eu', $_, $published, 60), "$_: everything arrives") for qw(straight nats);
	arrived_in_order($_, $_) for qw(straight nats);
	for my $outbox (qw(straight nats))
	{
		ok(defined wait_until(sub { held($outbox) == 0 }, 30, 'an empty outbox'), "$outbox: once delivered and old, all of it is gone")
		  or diag($duo->sql('us', "SELECT tide.outbox_status('$outbox')"), $duo->sql('us', 'SELECT name, sent, confirmed FROM tide.pipelines'));
	}
	cmp_ok($most, '<', $published, '... and it went while the relay was at work');
	is(dead_tuples(), '', 'no dead tuple in any segment or position table, with a snapshot held open');
	$holder->query_safe('COMMIT');
	$holder->quit;
	return;
}

# What no destination has confirmed stays, however old it is.
sub test_kept
{
	$duo->sql('us', q{SELECT tide.relay_disable('straight')});
	$duo->sql('eu', q{SELECT tide.relay_disable('nats-in')});
	sleep 1;    # both relays look twice a second
	publish(150);
	sleep 5;    # five times the retention, and several rounds of maintenance
	is(held('straight'), 150, 'a disabled pipeline: what it has not sent is kept');
	is(held('nats'), 150, 'a broker that has it is not enough: what no inbox has is kept');
	publish(50);
	$duo->nats->ctl('stream-purge', 'NATS');
	$duo->sql('us', q{SELECT tide.relay_enable('straight')});
	$duo->sql('eu', q{SELECT tide.relay_enable('nats-in')});
	ok(defined $duo->wait_count('eu', 'straight', $published, 60), 'enabled again: all of it arrives');
	ok(defined $duo->wait_count('eu', 'nats', $published, 90), '... even what the broker has lost meanwhile');
	arrived_in_order('straight', 'straight');
	is($duo->sql('eu', 'SELECT count(*), count(DISTINCT event_id) FROM tide.nats_inbox'), "$published|$published", 'nats: all arrived, once');
	for my $outbox (qw(straight nats))
	{
		ok(defined wait_until(sub { held($outbox) == 0 }, 30, 'an empty outbox'), "$outbox: and then it goes");
	}
	return;
}

# A publisher that takes its time holds nobody up, and nothing of it is lost.
sub test_slow_publisher
{
	my $slow = $duo->node->background_psql('us');
	$slow->query_safe('BEGIN');
	$slow->query_safe(q{SELECT tide.outbox_publish(o, 'e', '{"n": 0}', '{}', 'slow') FROM unnest(ARRAY['straight', 'nats']) o});
	publish(100);
	$published++;    # the slow one, twice
	ok(defined $duo->wait_count('eu', $_, $published - 1, 30), "$_: others' events pass a transaction that is open") for qw(straight nats);
	sleep 4;
	my $start = time;
	publish(10);
	cmp_ok(time - $start, '<', 2, 'maintenance makes no publisher wait for that transaction');
	$slow->query_safe('COMMIT');
	$slow->quit;
	ok(defined $duo->wait_count('eu', $_, $published, 30), "$_: committed at last, it arrives") for qw(straight nats);
	return;
}

# Somebody drops several things in one transaction while house is kept: they get them, not a deadlock.
sub test_drop
{
	$duo->sql('us', q{SELECT tide.outbox_create('useless', '1 second'), tide.inbox_create('useless'), tide.outbox_publish('useless', 'e', '{}')});
	my $dropper = $duo->node->background_psql('us', on_error_stop => 0);
	$dropper->query('BEGIN');
	$dropper->query(q{SELECT tide.outbox_drop('useless')});
	sleep 3;    # maintenance has come across it
	$dropper->query(q{SELECT tide.inbox_drop('useless')});
	$dropper->query('COMMIT');
	$dropper->quit;
	is($duo->sql('us', q{SELECT count(*) FROM tide.outbox WHERE name = 'useless'}), 0, 'an outbox and an inbox dropped in one transaction are gone');
	unlike(PostgreSQL::Test::Utils::slurp_file($duo->node->logfile), qr/deadlock detected/, '... and nobody met a deadlock');
	return;
}

$duo->sql('us', q{CREATE EXTENSION pgstattuple; SELECT tide.outbox_create('straight', '1 second'), tide.outbox_create('nats', '1 second')});
$duo->sql('eu', q{SELECT tide.inbox_create('straight'), tide.inbox_create('nats')});
$duo->direct('us', 'straight', 'straight', 'eu', 'straight');
$duo->outbox_to_nats('us', 'nats-out', 'nats', stream => 'NATS', subject_template => 'nats.{op}');
$duo->inbox_from_nats('eu', 'nats-in', 'nats', stream => 'NATS', subject => 'nats.*');
$duo->start_relays;
test_flow();
test_kept();
test_slow_publisher();
test_drop();
is_deeply($duo->stop_relays, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
