# Changes of configuration apply within two seconds and to that pipeline alone; one bad pipeline stops no
# other; SIGTERM drains, and what was drained does not come again; a relay waits for its database.
#
# Runs alone: a change of configuration has two seconds.

use strict;
use warnings;

use Test::More;

use PgTide::Faults;
use PgTide::Test qw(wait_until);
use PgTide::Wan;

plan skip_all => PgTide::Wan->why_not if PgTide::Wan->why_not;

my $LIMIT = 2;

my $pair = PgTide::Faults->new;
my $us = $pair->us;
$us->safe_psql('postgres', "SELECT tide.outbox_create('other')");
$pair->start_relays;

sub applied
{
	my ($what, $condition) = @_;
	my $took = wait_until($condition, 20, $what);
	cmp_ok($took // 99, '<', $LIMIT, "$what within $LIMIT s");
	note sprintf '%s after %.2f s', $what, $took // -1;
	return;
}

sub state_is
{
	my ($name, $state) = @_;
	return sub { ($pair->pipeline('us', $name)->{state} // '') eq $state };
}

sub stdout_is
{
	my ($count) = @_;
	return sub { $pair->relay('us')->metric('pg_tide_events_delivered_total', qr/pipeline="extra"/) == $count };
}

# How often relays are told of a change when that is run.
sub told
{
	my ($sql) = @_;
	$us->psql('postgres', "LISTEN tide_pipelines; $sql", stdout => \my $out);
	return scalar(() = $out =~ /Asynchronous notification "tide_pipelines"/g);
}

# ---- changes ----

$pair->start_load;
$pair->wait_arrivals('eu', 20);
my $epoch = $pair->pipeline('us', 'out')->{epoch};

$pair->set_outbox('us', 'extra', { sink_type => 'stdout' }, 'other');
applied('a new pipeline runs', state_is('extra', 'running'));
$us->safe_psql('postgres', "SELECT tide.outbox_publish('other', 'e', '1')");
applied('it delivers', stdout_is(1));
$us->safe_psql('postgres', "SELECT tide.relay_disable('extra')");
applied('a disabled pipeline stops', sub { $pair->relay('us')->log_text =~ /pipeline=extra msg="pipeline stopped"/ });
$us->safe_psql('postgres', "SELECT tide.outbox_publish('other', 'e', '2')");
$us->safe_psql('postgres', "SELECT tide.relay_enable('extra')");
applied('an enabled one runs, and delivers what waited', stdout_is(2));
is(told(q{SELECT tide.relay_disable('extra'); SELECT tide.relay_enable('extra')}), 2, 'relays are told of changes');
is(told(q{UPDATE tide.pipeline SET state = state, changed_at = now()}), 0, '... and not of what they write themselves');
applied('... and the pipeline runs', state_is('extra', 'running'));
my $before = $pair->pipeline('us', 'extra')->{epoch};
$pair->set_outbox('us', 'extra', { sink_type => 'stdout', batch_size => 7 }, 'other');
applied('a changed one runs anew', sub { my $row = $pair->pipeline('us', 'extra');
	$row->{state} eq 'running' && $row->{epoch} > $before });
$us->safe_psql('postgres', "SELECT tide.relay_delete('extra')");
applied('a deleted one is gone', sub { ($pair->relay('us')->get('/readyz'))[1] !~ /"extra"/ });

# ---- bad neighbours ----

$pair->set_outbox('us', 'no-broker', { sink_type => 'nats', url => 'nats://127.0.0.1:1', stream => 'X' }, 'other');
$pair->set_outbox('us', 'no-inbox',
	{ sink_type => 'inbox', conninfo => $pair->conninfo('eu'), inbox => 'nowhere' }, 'other');
$pair->set_outbox('us', 'no-database',
	{ sink_type => 'inbox', conninfo => $pair->conninfo('eu') . ' dbname=nowhere', inbox => 'x' }, 'other');
$us->safe_psql('postgres', "SELECT tide.outbox_publish('other', 'e', '3')");
applied('an unreachable broker is retried', state_is('no-broker', 'retrying'));
applied('a missing inbox is a failure', state_is('no-inbox', 'failed'));
like($pair->pipeline('us', 'no-inbox')->{last_error}, qr/inbox "nowhere" does not exist/, '... that names it');
applied('a missing database, too', state_is('no-database', 'failed'));
ok(defined $pair->wait_arrivals('eu', 20), 'events flow beside them');
is($pair->pipeline('us', 'out')->{epoch}, $epoch, 'the good pipeline was never touched');
$pair->eu->safe_psql('postgres', "SELECT tide.inbox_create('nowhere')");
ok(defined wait_until(sub { $pair->eu->safe_psql('postgres', 'SELECT count(*) FROM tide.nowhere_inbox') >= 1 },
		30, 'the failed pipeline to go on'), 'a failed pipeline goes on when its cause is gone');
$us->safe_psql('postgres', "SELECT tide.relay_delete('$_')") for qw(no-broker no-inbox no-database);

# ---- draining ----

for my $round (1 .. 3)
{
	$pair->wait_arrivals('eu', 30);
	is($pair->relay('us')->stop, 0, 'SIGTERM under load: status 0');
	$pair->start_relay('us');
}
$pair->wait_arrivals('eu', 30);
$pair->stop_load;
$pair->verdict('after changes and restarts');
is($pair->relay('eu')->metric('pg_tide_events_deduplicated_total'), 0, 'nothing that was drained came again');

# ---- no database yet ----

is($pair->relay('us')->stop, 0, 'the relay ends');
$us->stop;
$pair->start_relay('us', wait => 0);
ok(defined wait_until(sub { $pair->relay('us')->log_text =~ /home database can't be used/ }, 20, 'a word about the database'),
	'a relay without its database says so');
is(($pair->relay('us')->get('/livez'))[0], 200, '... and lives');
is(($pair->relay('us')->get('/readyz'))[0], 503, '... but is not ready');
$us->start;
$us->safe_psql('postgres', "SELECT tide.outbox_publish('events', 'late', '{}')");
ok(defined wait_until(sub { $pair->eu->safe_psql('postgres',
	q{SELECT count(*) FROM tide."arrivals_inbox" WHERE entity = 'late'}) eq '1' }, 30, 'the late event'),
	'it goes on when the database is there');

is_deeply($pair->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
