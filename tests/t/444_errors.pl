# What the servers refuse: settings, privileges, places that are taken, locks.  Each is said in words that name the thing,
# and each heals by itself when the reason is gone.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);

use PgTide::Mesh;
use PgTide::Process;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new;
$mesh->sql_all('CREATE TABLE things (id int PRIMARY KEY, v text)');
$mesh->class('shop');
$mesh->add_table('things', 'shop');

sub says
{
	my ($pattern, $what) = @_;
	return ok(defined $mesh->wait_value('eu', q{SELECT coalesce(last_error, '') FROM tide.links}, $pattern), "$what: the link says so");
}

my $n = 0;

sub heals
{
	my ($what) = @_;
	$n++;
	$mesh->sql('us', "INSERT INTO things VALUES ($n, 'x')");
	ok(defined $mesh->wait_value('eu', 'SELECT state FROM tide.links', 'streaming', 60), "$what: streams");
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables("$what: equal", ['things']);
	return;
}

sub set
{
	my ($name, $value) = @_;
	my $node = $mesh->node('us');
	$node->adjust_conf('postgresql.conf', $name, $value);
	$node->restart;
	return;
}

sub test_wal_level
{
	set('wal_level', 'replica');
	$mesh->link('eu', 'us');
	$mesh->start_relay('eu', wait => 0);
	says(qr/wal_level/, 'wal_level = replica');
	set('wal_level', 'logical');
	heals('wal_level = logical');
	return;
}

sub test_role
{
	$mesh->relay('eu')->stop;
	$mesh->sql('us', 'ALTER ROLE relay NOREPLICATION');
	$mesh->start_relay('eu', wait => 0);
	says(qr/replication/i, 'without REPLICATION');
	$mesh->sql('us', 'ALTER ROLE relay REPLICATION');
	heals('with it');
	$mesh->relay('eu')->stop;
	$mesh->sql('us', 'REVOKE tide_relay FROM relay');
	$mesh->start_relay('eu', wait => 0);
	says(qr/permission denied|tide_relay/i, 'not a member of tide_relay there');
	$mesh->sql('us', 'GRANT tide_relay TO relay');
	heals('a member');
	return;
}

sub test_senders
{
	$mesh->relay('eu')->stop;
	set('max_wal_senders', 1);
	my $other = PgTide::Process->new(
		name    => 'receivewal',
		log     => "$ENV{TIDE_DATA}/receivewal.log",
		command => [ 'pg_receivewal', '-D', $ENV{TIDE_DATA}, '-d', $mesh->node('us')->connstr('postgres') ])->start;
	ok(defined $mesh->wait_value('us', 'SELECT count(*) FROM pg_stat_replication', 1), 'max_wal_senders are in use');
	$mesh->start_relay('eu', wait => 0);
	says(qr/max_wal_senders/, 'max_wal_senders exhausted');
	$other->stop;
	heals('one is free');
	set('max_wal_senders', 20);
	heals('more of them');

	$mesh->unlink('eu', 'us');
	ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM tide.link', 0), 'the link is removed');
	$mesh->sql('us', q{SELECT pg_create_physical_replication_slot('s' || n) FROM generate_series(1, 20) n});
	$mesh->link('eu', 'us');
	says(qr/slots/, 'max_replication_slots exhausted');
	$mesh->sql('us', q{SELECT pg_drop_replication_slot('s' || n) FROM generate_series(1, 20) n});
	heals('slots are free');
	return;
}

# Not ready, not there, not ours.
sub test_peer
{
	$mesh->node('us')->stop;
	says(qr/connect/i, 'the origin is down');
	$mesh->node('us')->start;
	heals('up again');
	$mesh->sql('us', q{ALTER TABLE tide.local_region RENAME TO local_region_gone});
	$mesh->relay('eu')->kill9;
	$mesh->start_relay('eu', wait => 0);
	says(qr/./, 'an origin without a region');
	$mesh->sql('us', q{ALTER TABLE tide.local_region_gone RENAME TO local_region});
	heals('with one');
	return;
}

# Two links' relays make the origins that they share; the server would have each wait for the other.
sub test_origins
{
	my ($one, $other) = map { $mesh->node('us')->background_psql('postgres') } 1 .. 2;
	$mesh->sql('us', q{SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin WHERE roname LIKE 'tide\_%'});
	$one->query_safe(q{BEGIN; SELECT tide._link_origins(NULL)});
	$other->query_until(qr/begun/, qq{\\echo begun\nSELECT tide._link_origins(NULL);\n\\echo done\n});
	ok(defined $mesh->wait_value('us', 'SELECT count(*) FROM pg_locks WHERE NOT granted', 1), 'the second waits for the first');
	$one->query_safe(q{SELECT pg_replication_origin_create('mine'); COMMIT});
	$other->query_until(qr/done/, '');
	is($mesh->sql('us', q{SELECT count(*) FROM pg_replication_origin WHERE roname LIKE 'tide\_%#%'}), 8, '... who goes on making them; there is one of each');
	$mesh->sql('us', q{SELECT pg_replication_origin_drop('mine')});
	$_->quit for $one, $other;
	return;
}

# Locks of others in the destination: waited for, tried again, never a reason to park.
sub test_locks
{
	$mesh->sql('us', q{INSERT INTO things SELECT n, 'locked' FROM generate_series(1001, 1010) n});
	$mesh->settle_one('us', 'eu');
	$mesh->sql('eu', q{ALTER ROLE relay SET lock_timeout = '300ms'; ALTER ROLE relay SET deadlock_timeout = '3s'});
	$mesh->relay('eu')->stop;
	$mesh->start_relay('eu');
	my $session = $mesh->node('eu')->background_psql('postgres');
	$session->query_safe('BEGIN; SELECT FROM things WHERE id = 1005 FOR UPDATE');
	$mesh->sql('us', q{UPDATE things SET v = 'later' WHERE id > 1000});
	says(qr/lock/i, 'lock_timeout');
	is($mesh->sql('eu', 'SELECT count(*) FROM tide.parked_change'), 0, '... which parks nothing');
	$session->query_safe('COMMIT');
	heals('the lock is gone');

	# Two who wait for each other; the server ends the relay's transaction.
	$mesh->sql('eu', q{ALTER ROLE relay RESET lock_timeout});
	$mesh->relay('eu')->stop;
	$mesh->start_relay('eu');
	$session->query_safe(q{SET deadlock_timeout = '60s'; BEGIN; SELECT FROM things WHERE id = 1010 FOR UPDATE});
	my $deadlocks = q{SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'};
	my $before = $mesh->sql('eu', $deadlocks);
	$mesh->sql('us', q{BEGIN; UPDATE things SET v = 'one' WHERE id = 1001; UPDATE things SET v = 'ten' WHERE id = 1010; COMMIT});
	ok(defined $mesh->wait_value('eu', q{SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.usename = 'relay'}, 't'),
		'the apply waits for a row');
	$session->query_safe('SELECT FROM things WHERE id = 1001 FOR UPDATE');
	$session->query_safe('COMMIT');
	ok(defined $mesh->wait_value('eu', $deadlocks, $before + 1), 'a deadlock: the relay\'s transaction was ended');
	heals('afterwards');
	is($mesh->sql('eu', 'SELECT count(*) FROM tide.parked_change'), 0, '... and nothing was parked');
	$session->quit;
	return;
}

# The answer to a commit is lost, for certain: the relay stands still while its statement ends, and is killed before
# it reads that.  What is here is known by the progress row, also where no key would show a repetition.
sub test_answer_lost
{
	$mesh->sql_all('CREATE TABLE noted (v text)');
	$mesh->add_table('noted', 'shop', { insert_only => \1 });
	$mesh->wait_copied('eu', 'us');
	my $session = $mesh->node('eu')->background_psql('postgres');
	$session->query_safe('BEGIN; LOCK TABLE things IN EXCLUSIVE MODE');
	$mesh->sql('us', q{BEGIN; INSERT INTO noted VALUES ('once'); INSERT INTO things VALUES (500, 'once'); COMMIT});
	my $waits = q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'relay' AND wait_event_type = 'Lock'};
	ok(defined $mesh->wait_value('eu', $waits, 1), 'the apply waits for a table');
	$mesh->relay('eu')->freeze;
	$session->query_safe('COMMIT');
	ok(defined $mesh->wait_value('eu', q{SELECT v FROM noted}, 'once'), '... and commits while the relay stands still');
	$mesh->relay('eu')->kill9;
	$session->quit;
	$mesh->start_relay('eu');
	heals('the answer was lost');
	is($mesh->sql('eu', 'SELECT string_agg(v, chr(32)) FROM noted'), 'once', '... and nothing came twice');
	return;
}

# Connections that end at any moment, between a commit and its answer, too.
sub test_connections
{
	my $limit = 25;
	for my $i (1 .. $limit)
	{
		$mesh->sql('us', "INSERT INTO things SELECT 10000 + $i * 100 + n, 'x' FROM generate_series(1, 50) n; UPDATE things SET v = v || '$i' WHERE id % 25 = $i % 25");
		my $side = $i % 3 ? 'eu' : 'us';
		$mesh->sql($side, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'relay'});
		sleep rand 0.3;
	}
	heals("after $limit times all connections ended");
	$mesh->nothing_special('nothing was parked, nothing copied twice');
	return;
}

test_wal_level();
test_role();
test_senders();
test_peer();
test_origins();
test_locks();
test_answer_lost();
test_connections();
is($mesh->relay('eu')->stop, 0, 'the relay ends with status 0');
done_testing();
