# The destination's server has no memory for a large row: the link says so, keeps its place, and goes on when there is some.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $MB = 60;

my $mesh = PgTide::Mesh->new(conf => 'max_wal_size = 4GB');
$mesh->sql_all('CREATE TABLE big (id int PRIMARY KEY, v text); ALTER TABLE big ALTER v SET STORAGE EXTERNAL');
$mesh->class('shop');
$mesh->add_table('big', 'shop');
$mesh->link('eu', 'us');
$mesh->start_relays;
ok(defined $mesh->wait_copied('eu', 'us'), 'eu takes rows from us');

sub postmaster
{
	return $mesh->node('eu')->{_pid};
}

# Of the server and all that it has started; bytes, or "unlimited".
sub limit_memory
{
	my ($bytes) = @_;
	my @pids = (postmaster(), split /\n/, $mesh->sql('eu', 'SELECT pid FROM pg_stat_activity'));
	for my $pid (@pids)
	{
		next unless -d "/proc/$pid";
		system('prlimit', '--pid', $pid, "--as=$bytes:") == 0 or note "process $pid is gone";
	}
	return;
}

# What the largest of the relay's sessions in eu takes now.
sub address_space
{
	my $most = 0;
	for my $pid (split /\n/, $mesh->sql('eu', q{SELECT pid FROM pg_stat_activity WHERE usename = 'relay'}))
	{
		open my $status, '<', "/proc/$pid/status" or next;
		my ($kib) = map { /^VmSize:\s+(\d+)/ } <$status>;
		$most = $kib * 1024 if $kib * 1024 > $most;
	}
	return $most || die "no session of the relay in eu\n";
}

sub link_of_eu
{
	my ($column) = @_;
	return $mesh->sql('eu', "SELECT $column FROM tide.links");
}

limit_memory(address_space() + $MB * 1024 * 1024);
$mesh->sql('us', "INSERT INTO big SELECT 1, repeat((SELECT string_agg(md5(n::text), '') FROM generate_series(1, 31250) n), $MB)");
$mesh->sql('us', q{INSERT INTO big VALUES (2, 'behind')});
ok(defined $mesh->wait_value('eu', 'SELECT state FROM tide.links', 'error', 60), 'a row that the server has no memory for: an error of the link');
like(link_of_eu('last_error'), qr/out of memory/, '... that says so');
is(link_of_eu('last_error_code'), '53200', '... by its code, too');
my $retries = sub { $mesh->relay('eu')->metric('pg_tide_retries_total', qr/link:us-east/) };
my $before = $retries->();
ok(defined wait_until(sub { $retries->() > $before + 1 }, 60, 'attempts'), '... it is tried again');
is($mesh->sql('eu', 'SELECT count(*) FROM big'), 0, '... and nothing is skipped');
is(link_of_eu('parked'), 0, '... nor put aside: the row is not to blame');
is($mesh->sql('eu', 'SELECT 1'), 1, '... the server serves others');
limit_memory('unlimited');
ok(defined $mesh->wait_for_catchup('us', 'eu', 60), 'when there is memory, it goes on');
$mesh->same_tables('... and has all', ['big']);
is(link_of_eu('state || resyncs'), 'streaming0', '... without a resync');

done_testing();
