# pg_dump and restore into another cluster; creating the extension where its roles exist; dropping it and creating it again.

use strict;
use warnings;

use Test::More;

use PgTide::Duo;
use PgTide::Region;
use PgTide::Relay;
use PgTide::Test qw(wait_until);

my $duo = PgTide::Duo->new(nats => 0);
my $other = PgTide::Region->make('other', create => 0);

sub publish
{
	my ($count, $from) = @_;
	$duo->sql('us', sprintf q{SELECT count(tide.outbox_publish('orders', 'e', jsonb_build_object('n', n), '{}', 'k')) FROM generate_series(%d, %d) n},
		$from, $from + $count - 1);
	return;
}

sub set_up
{
	$duo->sql('us', q{
		SELECT tide.outbox_create('orders'), tide.outbox_create('other-one', '2 days'), tide.inbox_create('back', 7, '3 days', '9 days');
		CREATE ROLE app LOGIN; SELECT tide.outbox_grant_publish('orders', 'app');
		CREATE FUNCTION handle(jsonb) RETURNS void LANGUAGE sql AS '';
		SELECT tide.inbox_set_handler('back', 'handle(jsonb)'), tide.relay_disable('handler:back')});
	$duo->sql('eu', q{SELECT tide.inbox_create('orders'), tide.outbox_create('replies')});
	$duo->direct('us', 'orders-out', 'orders', 'eu', 'orders', batch_size => 5);
	$duo->direct('eu', 'replies', 'replies', 'us', 'back');
	$duo->start_relays;
	publish(20, 1);
	$duo->sql('eu', q{SELECT count(tide.outbox_publish('replies', 'r', jsonb_build_object('n', n))) FROM generate_series(1, 10) n});
	ok(defined $duo->wait_count('eu', 'orders', 20), '20 events were delivered');
	ok(defined $duo->wait_count('us', 'back', 10), '... and 10 received');
	$duo->relay('us')->stop;
	publish(15, 21);
	# Three that were seen and removed: their ids must stay known.
	$duo->sql('us', q{DELETE FROM tide.back_inbox WHERE seq <= 3});
	return;
}

# From the database us of one cluster to that of the other.
sub dump_and_restore
{
	my $file = "$ENV{TIDE_DATA}/us.dump";
	$duo->node->command_ok([ 'pg_dump', '-Fc', '-f', $file, '-d', $duo->node->connstr('us') ], 'pg_dump');
	$other->safe_psql('postgres', 'CREATE DATABASE us; CREATE ROLE app LOGIN');
	$other->command_ok([ 'pg_restore', '--exit-on-error', '-d', $other->connstr('us'), $file ], 'pg_restore, without one error');
	$other->make_relay_role;
	return;
}

sub both
{
	my ($query, $name) = @_;
	is($other->safe_psql('us', $query), $duo->sql('us', $query), $name);
	return;
}

sub test_restored
{
	both('SELECT id, name, segment, enabled, retention FROM tide.outbox ORDER BY id', 'outboxes are as they were');
	both('SELECT id, name, max_attempts, retention, ledger_retention, handler, handler_role::text FROM tide.inbox', '... inboxes');
	both('SELECT id, name, direction, target, config, enabled FROM tide.pipeline ORDER BY id', '... pipelines');
	both('SELECT event_id, payload, seq FROM tide.orders_outbox ORDER BY seq', '... events in the outbox');
	both('SELECT event_id, payload, seq, processed_at FROM tide.back_inbox ORDER BY seq', '... in the inbox');
	both('SELECT event_id FROM tide.inbox_1_ledger ORDER BY 1', '... what the inbox remembers');
	both('SELECT name FROM tide.local_region', '... the region\'s name');
	both(q{SELECT string_agg(relname || coalesce(relacl::text, ''), E'\n' ORDER BY relname) FROM pg_class
		WHERE relnamespace = 'tide'::regnamespace AND relkind IN ('v', 'S')}, '... who may do what');
	both(q{SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2}, '... and triggers');
	is($other->safe_psql('us', q{SELECT count(*) FROM tide.position_0}) + $other->safe_psql('us', q{SELECT count(*) FROM tide.position_1}), 0,
		'positions are not there: they mean nothing in another cluster');
	$other->safe_psql('us', q{SELECT tide.outbox_create('new'), tide.inbox_create('new'), tide.outbox_publish('new', 'e', '{}')});
	pass('new outboxes and inboxes get ids of their own');
	return;
}

sub error_of
{
	my ($sql) = @_;
	$other->psql('us', $sql, stderr => \my $err, on_error_die => 0, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	return $err;
}

# The restored outbox speaks of transactions of another cluster: nothing is read from it, and nothing lost.
sub test_rebase
{
	is(error_of(q{SELECT tide.outbox_publish('orders', 'e', '{"n": 36}', '{}', 'k')}), '', 'a restored outbox takes events');
	my $err = error_of(q{SELECT * FROM tide.outbox_fetch('orders-out', (SELECT epoch FROM tide.pipeline WHERE name = 'orders-out'), 'orders', NULL, NULL, NULL, 10, 100)});
	like($err, qr/ERROR:  TD002: /, '... but is not read');
	like($err, qr/^HINT:  .*outbox_rebase/m, '... and the hint says what to do');
	my $relay = PgTide::Relay->new(name => 'other', conninfo => sprintf('host=%s port=%s user=relay dbname=us', $other->host, $other->port));
	$relay->start(wait => 0);
	ok(defined wait_until(sub { $other->safe_psql('us', q{SELECT last_error_code FROM tide.pipelines WHERE name = 'orders-out'}) eq 'TD002' },
			20, 'TD002'), 'the relay is refused, too');
	ok(defined wait_until(sub { $other->safe_psql('us', q{SELECT state FROM tide.pipelines WHERE name = 'orders-out'}) eq 'failed' },
			20, 'failed'), '... the pipeline has failed');
	like($other->safe_psql('us', q{SELECT last_error FROM tide.pipelines WHERE name = 'orders-out'}), qr/"orders"/, '... and says which outbox');
	is($duo->count('eu', 'orders'), 20, '... nothing was sent');

	is($other->safe_psql('us', q{SELECT tide.outbox_rebase('orders')}), 36, 'outbox_rebase tells how much the outbox holds');
	ok(defined $duo->wait_count('eu', 'orders', 36, 40), '... and all of it is sent');
	is($duo->sql('eu', q{SELECT string_agg(payload ->> 'n', ',' ORDER BY seq) FROM tide.orders_inbox}), join(',', 1 .. 36),
		'... of which the inbox takes what it lacks, in order');
	ok(defined wait_until(sub { ($relay->metric('pg_tide_events_deduplicated_total', qr/orders-out/) // 0) == 20 }, 20, '20 duplicates'),
		'... and drops what it has');
	$other->safe_psql('us', q{SELECT tide.outbox_publish('orders', 'e', '{"n": 37}', '{}', 'k')});
	ok(defined $duo->wait_count('eu', 'orders', 37), 'new events follow');
	is(error_of(q{SELECT tide.outbox_rebase('orders')}), '', 'a second rebase does no harm');

	# The inbox's memory came along: what it had, it does not take again.
	my $conninfo = sprintf 'host=%s port=%s user=relay dbname=us', $other->host, $other->port;
	$duo->sql('eu', sprintf q{SELECT tide.relay_set_outbox('again', 'replies', '{"sink_type": "inbox", "inbox": "back", "conninfo": "%s"}')}, $conninfo);
	ok(defined wait_until(sub { ($duo->relay('eu')->metric('pg_tide_events_deduplicated_total', qr/"again"/) // 0) == 10 }, 20, '10 duplicates'),
		'the restored inbox knows what it had, the removed ones included');
	is($other->safe_psql('us', 'SELECT count(*) FROM tide.back_inbox'), 7, '... and takes nothing again');
	is($relay->stop, 0, 'the relay of the restored database ends well');
	return;
}

sub test_create_and_drop
{
	is($duo->sql('us', q{SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tide\_%'}), 4, 'the roles are there once, with two databases using them');
	$duo->sql('postgres', 'CREATE DATABASE third');
	$duo->sql('third', 'CREATE EXTENSION pg_tide; DROP EXTENSION pg_tide; CREATE EXTENSION pg_tide');
	pass('created, dropped and created again');
	$duo->sql('third', q{SELECT tide.region_init('third'), tide.outbox_create('o'), tide.inbox_create('i'), tide.outbox_publish('o', 'e', '{}')});
	my $err = $duo->error_of('third', 'DROP EXTENSION pg_tide');
	like($err, qr/ERROR:  2BP01/, 'with an outbox and an inbox, DROP EXTENSION asks for CASCADE');
	$duo->sql('third', 'SET client_min_messages = error; DROP EXTENSION pg_tide CASCADE');
	is($duo->sql('third', q{SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'tide'}), 0, '... which leaves nothing');
	$duo->sql('third', 'DROP SCHEMA IF EXISTS tide CASCADE');
	$duo->sql('third', q{CREATE EXTENSION pg_tide; SELECT tide.outbox_create('o'), tide.inbox_create('i'), tide.outbox_publish('o', 'e', '{}')});
	is($duo->sql('third', 'SELECT count(*) FROM tide.o_outbox'), 1, 'and all can begin anew');
	# In a session that knew the old one.
	is($duo->sql('third', q{SELECT tide.outbox_publish('o', 'e', '{}') IS NOT NULL;
		SET client_min_messages = error; DROP EXTENSION pg_tide CASCADE; CREATE EXTENSION pg_tide;
		SELECT tide.outbox_create('o'); SELECT tide.outbox_publish('o', 'e', '{}') IS NOT NULL; SELECT count(*) FROM tide.o_outbox}), "t\n\nt\n1",
		'... in one session, too');
	is($duo->error_of('third', 'DROP SCHEMA tide CASCADE') =~ /pg_tide/ ? 1 : 0, 1, 'the schema goes only with the extension');
	return;
}

set_up();
dump_and_restore();
test_restored();
test_rebase();
test_create_and_drop();
is_deeply($duo->stop_relays, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
