# Durability: commits of synchronous classes wait for another region, others don't; what a wait that ends early means.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

use PgTide::Mesh;
use PgTide::Process;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new;
my %OTHER = (us => 'eu', eu => 'us');

sub standby
{
	my ($origin, $peer) = @_;
	return $mesh->sql($origin, "SELECT tide._standby('$PgTide::Mesh::REGION{$peer}')");
}

# The server waits for these standbys, and every session knows.
sub list_standbys
{
	my ($side, $line) = @_;
	$mesh->sql($side, "ALTER SYSTEM SET synchronous_standby_names = '$line'");
	$mesh->node($side)->reload;
	defined $mesh->wait_value($side, 'SHOW synchronous_standby_names', $line) or die "not reloaded\n";
	return;
}

my $n = 0;

# A session that runs one piece of SQL by itself; ->wait_end, ->log_text.
sub session
{
	my ($side, $sql, @options) = @_;
	$n++;
	return PgTide::Process->new(
		name    => "session $n",
		log     => "$ENV{TIDE_DATA}/session$n.log",
		command => [ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=verbose',
			'-d', $mesh->node($side)->connstr('postgres') . " application_name=session$n", '-c', $sql ])->start;
}

sub waiting
{
	my ($side, $wanted) = @_;
	return defined $mesh->wait_value($side, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'}, $wanted);
}

sub counts
{
	my ($side, $class) = @_;
	return $mesh->sql($side, "SELECT waits, ended FROM tide.durability WHERE class = '$class'");
}

sub set_up
{
	$mesh->sql_all('CREATE TABLE ledger (id int PRIMARY KEY, v int); CREATE TABLE clicks (id int PRIMARY KEY, v int)');
	$mesh->class('money', durability => 'sync', peer => 'eu-west');
	$mesh->class('web');
	$mesh->add_table('ledger', 'money');
	$mesh->add_table('clicks', 'web');
	like($mesh->error_of('us', 'INSERT INTO ledger VALUES (1, 1)'),
		qr/TD022.*"eu-west".*HINT:.*synchronous_standby_names = 'ANY 1 \(tide_link_eu_west_\w+\)'/s,
		'a write that could not wait is refused, and the hint has the line');
	$mesh->sql('eu', 'INSERT INTO ledger VALUES (1000, 1)');
	$mesh->link_all;
	$mesh->start_relays;
	ok(defined $mesh->wait_copied(@$_), "$_->[0] takes rows from $_->[1]") for $mesh->ways;
	list_standbys('us', 'ANY 1 (' . standby('us', 'eu') . ')');
	$mesh->wait_value('us', 'SELECT sync_state FROM pg_stat_replication', 'quorum');
	return;
}

# What has returned is there; what is not there has not returned.
sub test_wait
{
	for my $id (1 .. 20)
	{
		$mesh->sql('us', "INSERT INTO ledger VALUES ($id, $id)");
		last if $mesh->sql('eu', "SELECT count(*) FROM ledger WHERE id = $id") != 1;
	}
	is($mesh->sql('eu', 'SELECT count(*) FROM ledger'), 21, 'a commit that has returned is in the other region');
	is(counts('us', 'money'), '20|0', '... and counted');

	$mesh->relay('eu')->freeze;
	my $session = session('us', 'INSERT INTO ledger VALUES (100, 1)');
	ok(waiting('us', 1), 'the peer stands still: a commit waits');
	my $start = time;
	$mesh->sql('us', "INSERT INTO clicks VALUES ($_, 1)") for 1 .. 20;
	ok(time - $start < 10, '... those of an asynchronous class do not');
	is($mesh->sql('us', 'SELECT count(*) FROM ledger WHERE id = 100'), 0, '... what waits is not seen yet');
	ok($session->alive, '... and waits on');
	$mesh->relay('eu')->thaw;
	is($session->wait_end(30), 0, '... until the peer has it');
	is($mesh->sql('eu', 'SELECT count(*) FROM ledger WHERE id = 100'), 1, '... as it does');
	is($session->log_text, '', '... without a word');
	return;
}

set_up();
test_wait();
$mesh->stop;
done_testing();
