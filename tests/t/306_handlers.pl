# Handlers run by a real relay: once per event, one transaction with the mark, in order per key, whatever fails or dies.
#
# Runs alone: a change of handlers has two seconds.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep time);

use PgTide::Duo;
use PgTide::Test qw(wait_until);

my $duo = PgTide::Duo->new(nats => 0, conf => "log_line_prefix = '%m [%p] '\nlog_min_messages = log\n");

sub handler
{
	my ($inbox, $body) = @_;
	$duo->sql('eu', qq{CREATE OR REPLACE FUNCTION handle_$inbox(event_id text, key text, payload jsonb) RETURNS void
		LANGUAGE plpgsql AS \$\$ BEGIN $body END \$\$});
	$duo->sql('eu', qq{SELECT tide.inbox_set_handler('$inbox', 'handle_$inbox(text, text, jsonb)')});
	return;
}

# An inbox with its outbox in us and the pipeline between.
sub make
{
	my ($name, %alter) = @_;
	$duo->sql('us', "SELECT tide.outbox_create('$name')");
	$duo->sql('eu', "SELECT tide.inbox_create('$name'); CREATE TABLE done_$name (n bigserial, event_id text, key text, payload jsonb)");
	my $settings = join '', map { ", $_ => '$alter{$_}'" } keys %alter;
	$duo->sql('eu', "SELECT tide.inbox_alter('$name'$settings)") if $settings;
	$duo->direct('us', "$name-out", $name, 'eu', $name);
	return;
}

sub publish
{
	my ($name, $count, $keys, $from) = @_;
	$from //= 1;
	$duo->sql('us', sprintf q{SELECT count(tide.outbox_publish('%s', 'order', jsonb_build_object('n', n), '{}',
		'K' || n %% %d)) FROM generate_series(%d, %d) n}, $name, $keys, $from, $from + $count - 1);
	return;
}

my $insert = q{INSERT INTO done_%s (event_id, key, payload) VALUES (event_id, key, payload);};

# Every event of the inbox but those in $except has exactly one effect, and the effects of a key follow its events.
sub once_and_in_order
{
	my ($name, $what, $except) = @_;
	my $skip = defined $except ? "(payload ->> 'n')::int NOT IN ($except)" : 'true';
	is($duo->sql('eu', "SELECT count(*), count(DISTINCT event_id) FROM done_$name"),
		join('|', ($duo->count('eu', $name, $skip)) x 2), "$what: one effect an event");
	is($duo->sql('eu', "SELECT string_agg(key, ',') FROM (SELECT key, array_agg(payload ->> 'n' ORDER BY n) AS did FROM done_$name GROUP BY key) d
			JOIN (SELECT key, array_agg(payload ->> 'n' ORDER BY seq) AS came FROM tide.${name}_inbox WHERE $skip GROUP BY key) c USING (key)
			WHERE did <> came"),
		'', '... and in order within each key');
	return;
}

sub test_plain
{
	make('plain');
	handler('plain', sprintf $insert, 'plain');
	publish('plain', 500, 7);
	ok(defined $duo->wait_value('eu', 'SELECT count(*) FROM tide.plain_inbox WHERE processed_at IS NOT NULL', 500),
		'500 events are handled');
	once_and_in_order('plain', 'plain');
	is($duo->sql('eu', q{SELECT count(*) FROM tide.plain_inbox i JOIN done_plain d USING (event_id) WHERE d.xmin = i.xmin}), 500,
		'... each in one transaction with its mark');
	is($duo->sql('eu', q{SELECT count(DISTINCT xmin::text) FROM done_plain}), 500, '... of its own');
	is($duo->relay('eu')->metric('pg_tide_events_delivered_total', qr/"handler:plain"/), 500, '... and counted');
	return;
}

# Two bad events among good ones: theirs is the only key that waits, and not for ever.
sub test_poison
{
	make('poison', max_attempts => 3, backoff_base => '300 ms', backoff_max => '2 s');
	$duo->sql('eu', 'CREATE TABLE allowed (n int)');
	handler('poison', q{RAISE LOG 'attempt at %', payload ->> 'n';
		IF (payload ->> 'n')::int IN (10, 23) AND NOT EXISTS (SELECT FROM allowed a WHERE a.n = (payload ->> 'n')::int)
		THEN RAISE EXCEPTION 'no good: %', payload ->> 'n'; END IF; } . sprintf $insert, 'poison');
	publish('poison', 100, 5);
	ok(defined $duo->wait_value('eu', q{SELECT count(*) FROM tide.poison_inbox WHERE processed_at IS NOT NULL AND key NOT IN ('K0', 'K3')}, 60),
		'poison: keys without a bad event are not held up');
	ok(defined $duo->wait_value('eu', 'SELECT count(*) FROM tide.dead_letters', 2), '... the bad ones become dead letters');
	ok(defined $duo->wait_value('eu', 'SELECT count(*) FROM tide.poison_inbox WHERE processed_at IS NOT NULL', 98),
		'... and then their keys go on');
	once_and_in_order('poison', 'poison', '10, 23');

	my $log = PostgreSQL::Test::Utils::slurp_file($duo->node->logfile);
	my @at = map { /^\S+ (\d+):(\d+):([\d.]+) .*attempt at 10$/ ? $1 * 3600 + $2 * 60 + $3 : () } split /\n/, $log;
	is(scalar @at, 3, '... after as many attempts as the inbox allows');
	cmp_ok($at[1] - $at[0], '>=', 0.22, '... with a pause before the second');
	cmp_ok($at[2] - $at[1], '>=', 0.44, '... and one of twice the length before the third');
	my $letters = $duo->rows('eu', 'SELECT * FROM tide.dead_letters ORDER BY id');
	for my $letter (@$letters)
	{
		is($letter->{error}, "no good: $letter->{payload}{n}", "dead letter $letter->{payload}{n}: the handler's own words");
		is($letter->{code}, 'P0001', '... and code');
		is($letter->{direction}, 'handler', '... from the handler');
		is($letter->{attempts}, 3, '... with the attempts');
	}
	is($duo->sql('eu', 'SELECT count(*) FROM tide.poison_inbox WHERE dead_at IS NOT NULL AND last_error IS NOT NULL'), 2, '... as the inbox says, too');

	$duo->sql('eu', 'INSERT INTO allowed VALUES (10)');
	$duo->sql('eu', "SELECT tide.dead_letter_retry($letters->[0]{id}), tide.dead_letter_discard($letters->[1]{id})");
	ok(defined $duo->wait_value('eu', q{SELECT count(*) FROM done_poison WHERE payload = '{"n": 10}'}, 1), 'retried, it is handled');
	is($duo->sql('eu', 'SELECT count(*) FROM tide.dead_letters'), 0, '... and closed, as is the one that was discarded');
	is($duo->sql('eu', q{SELECT count(*) FROM done_poison WHERE payload = '{"n": 23}'}), 0, '... which is never handled');
	return;
}

# An event that fails a few times and then works: the later ones of its key wait for it, the others do not.
sub test_flaky
{
	make('flaky', max_attempts => 9, backoff_base => '400 ms');
	$duo->sql('eu', 'CREATE SEQUENCE tries');
	handler('flaky', q{IF payload ->> 'n' = '4' AND nextval('tries') < 4 THEN RAISE EXCEPTION 'not yet'; END IF; } . sprintf $insert, 'flaky');
	publish('flaky', 60, 3);
	ok(defined $duo->wait_value('eu', q{SELECT count(*) FROM tide.flaky_inbox WHERE processed_at IS NOT NULL AND key <> 'K1'}, 40), 'flaky: other keys go on');
	is($duo->sql('eu', q{SELECT count(*) FROM done_flaky WHERE key = 'K1'}), 1, '... its own waits behind it');
	ok(defined $duo->wait_value('eu', q{SELECT count(*) FROM tide.flaky_inbox WHERE processed_at IS NOT NULL}, 60), '... until it works');
	once_and_in_order('flaky', 'flaky');
	is($duo->sql('eu', q{SELECT attempts FROM tide.flaky_inbox WHERE payload = '{"n": 4}'}), 4, '... at the fourth attempt');
	is($duo->sql('eu', 'SELECT count(*) FROM tide.dead_letters'), 0, '... and nothing was given up');
	return;
}

# What a handler does that fails is undone with it; what fails only at commit, too.
sub test_atomic
{
	make('atomic', max_attempts => 2, backoff_base => '50 ms');
	$duo->sql('eu', 'CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)');
	handler('atomic', sprintf($insert, 'atomic') . q{INSERT INTO child VALUES ((payload ->> 'n')::int);
		IF payload ->> 'n' = '3' THEN PERFORM 1 / 0; END IF;});
	$duo->sql('eu', 'INSERT INTO parent VALUES (1), (3), (4)');
	publish('atomic', 4, 4);
	ok(defined $duo->wait_value('eu', 'SELECT count(*) FROM tide.dead_letters', 2), 'atomic: an error, and a constraint that fails at commit');
	is($duo->sql('eu', q{SELECT string_agg(code, ', ' ORDER BY payload ->> 'n') FROM tide.dead_letters}), '23503, 22012', '... are told apart');
	is($duo->sql('eu', 'SELECT string_agg(id::text, \',\' ORDER BY id) FROM child'), '1,4', '... and leave nothing behind');
	once_and_in_order('atomic', 'atomic', '2, 3');
	$duo->sql('eu', 'SELECT tide.dead_letter_discard(id) FROM tide.dead_letters');
	return;
}

# The relay is killed while a handler is at work, again and again.
sub test_kill
{
	make('kill');
	handler('kill', sprintf($insert, 'kill') . 'PERFORM pg_sleep(0.02);');
	publish('kill', 100, 3);
	for my $round (1 .. 8)
	{
		wait_until(sub { $duo->sql('eu', q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) > 0
					|| $duo->count('eu', 'kill', 'processed_at IS NULL') == 0 }, 10, 'the handler at work');
		$duo->relay('eu')->kill9;
		$duo->start_relay('eu');
	}
	ok(defined $duo->wait_value('eu', 'SELECT count(*) FROM tide.kill_inbox WHERE processed_at IS NOT NULL', 100),
		'killed 8 times in the middle of a handler: all are handled');
	once_and_in_order('kill', 'kill -9');
	return;
}

# Replaced and taken away while it runs.
sub test_change
{
	make('change');
	handler('change', sprintf($insert, 'change') . 'PERFORM pg_sleep(0.005);');
	publish('change', 200, 3);
	ok(defined $duo->wait_value('eu', 'SELECT count(*) > 10 FROM done_change', 't'), 'a handler runs');
	$duo->sql('eu', q{CREATE FUNCTION other(event jsonb) RETURNS void LANGUAGE sql AS
		'INSERT INTO done_change (event_id, key, payload) VALUES (NULL, ''other'', event)'});
	my $start = time;
	$duo->sql('eu', q{SELECT tide.inbox_set_handler('change', 'other(jsonb)')});
	ok(defined $duo->wait_value('eu', q{SELECT count(*) > 0 FROM done_change WHERE key = 'other'}, 't', 5), 'replaced: the new one runs');
	cmp_ok(time - $start, '<', 3, '... within 2 s');
	ok(defined $duo->wait_value('eu', 'SELECT count(*) FROM tide.change_inbox WHERE processed_at IS NOT NULL', 200), '... for all that is left');
	is($duo->sql('eu', 'SELECT count(*) FROM done_change'), 200, '... each event once, by one of them');
	$duo->sql('eu', q{SELECT tide.inbox_unset_handler('change')});
	publish('change', 10, 3, 201);
	ok(defined $duo->wait_count('eu', 'change', 210), 'taken away: events still arrive');
	ok(defined wait_until(sub { $duo->sql('eu', q{SELECT count(*) FROM tide.pipelines WHERE name = 'handler:change'}) == 0 }, 5, 'its end'),
		'... its pipeline is gone');
	# The relay looks at the configuration twice a second.
	sleep 1;
	is($duo->count('eu', 'change', 'processed_at IS NULL'), 10, '... and they wait');
	is($duo->sql('eu', q{SELECT count(*) FROM tide.inbox_claim('change')}), 10, '... for a worker');
	$duo->sql('eu', q{SELECT tide.inbox_release('change', event_id) FROM tide.change_inbox WHERE processed_at IS NULL});
	$duo->sql('eu', q{SELECT tide.inbox_set_handler('change', 'other(jsonb)')});
	ok(defined $duo->wait_value('eu', 'SELECT count(*) FROM tide.change_inbox WHERE processed_at IS NOT NULL', 210), 'set again: they are handled');
	return;
}

# A handler that is dropped fails as a pipeline, not event by event; put back, it goes on.
sub test_dropped
{
	$duo->sql('eu', 'DROP FUNCTION other(jsonb)');
	publish('change', 5, 3, 211);
	ok(defined $duo->wait_error('eu', 'handler:change', qr/does not exist/), 'dropped: the pipeline says so');
	is($duo->sql('eu', 'SELECT count(*) FROM tide.dead_letters'), 0, '... no event suffers');
	is($duo->sql('eu', q{SELECT count(*) FROM tide.change_inbox WHERE attempts > 1}), 0, '... none is counted as tried');
	$duo->sql('eu', q{CREATE FUNCTION other(event jsonb) RETURNS void LANGUAGE sql AS
		'INSERT INTO done_change (event_id, key, payload) VALUES (NULL, ''other'', event)'});
	ok(defined $duo->wait_value('eu', 'SELECT count(*) FROM tide.change_inbox WHERE processed_at IS NOT NULL', 215), 'put back: they are handled');
	is($duo->sql('eu', 'SELECT count(*) FROM done_change'), 215, '... once each');
	return;
}

$duo->start_relays;
test_plain();
test_poison();
test_flaky();
test_atomic();
test_kill();
test_change();
test_dropped();
is_deeply($duo->stop_relays, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
