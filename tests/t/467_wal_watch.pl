# WAL that is kept for a region that does not take it: how long that can go on is said before the disk is full.  When it is
# full nevertheless (at the origin, or at the destination), nothing is lost.  And a transaction that is open for long is named.

use strict;
use warnings;

use JSON::PP qw(decode_json);
use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new(conf => "min_wal_size = 32MB\nmax_wal_size = 64MB\nwal_compression = off\n");
my @TABLES = qw(thing big);
my $written = 0;    # ids of big that are known to be committed

sub mount_disk
{
	my ($path, $options) = @_;
	mkdir $path unless -d $path;
	return system('mount', '-t', 'tmpfs', '-o', $options, 'tmpfs', $path) == 0;
}

# pg_wal of us on a disk of its own.
my $disk = "$ENV{TIDE_DATA}/us_wal";
my $room = "$ENV{TIDE_DATA}/eu_room";
plan skip_all => 'no file system can be mounted here' unless mount_disk($disk, 'size=224m,mode=0700') && mount_disk($room, 'size=40m,mode=0700');
{
	my $us = $mesh->node('us');
	my $wal = $us->data_dir . '/pg_wal';
	$us->stop;
	mkdir "$disk/wal", 0700;
	system('cp', '-a', "$wal/.", "$disk/wal") == 0 && system('rm', '-r', $wal) == 0 && symlink("$disk/wal", $wal) or die "pg_wal: $!";
	$us->start;
}

sub doctor
{
	my ($side) = @_;
	my $out = `$ENV{TIDE_TOP}/build/pg_tide doctor -d "${\$mesh->node($side)->relay_conninfo}" --json 2>&1`;
	return decode_json($out)->{findings};
}

# The first of the doctor's findings of that check, as soon as there is one.
sub finding
{
	my ($side, $check, $limit) = @_;
	my $found;
	wait_until(sub { ($found) = grep { $_->{check} eq $check && $_->{level} =~ /warn|error/i } @{ doctor($side) }; defined $found }, $limit // 30, "$check of $side");
	return $found // {};
}

# One value of a metric, or undef.
sub metric
{
	my ($side, $name) = @_;
	return (($mesh->relay($side)->get('/metrics'))[1] =~ /^pg_tide_$name(?:\{[^}]*\})? ([-\d.e+]+)$/m)[0];
}

# About n MB of WAL; false if the server refuses.
sub write_big
{
	my ($mb) = @_;
	my $first = $written + 1;
	my $last = $written + $mb;
	my $status = $mesh->node('us')->psql('postgres', <<~"END", on_error_die => 0, on_error_stop => 1);
		INSERT INTO big SELECT n, repeat(n::text || ' ', 250000)::bytea FROM generate_series($first, $last) n;
		END
	return 0 if $status != 0;
	$written = $last;
	return 1;
}

$mesh->sql_all(<<'END');
CREATE TABLE thing (id int PRIMARY KEY, v text);
CREATE TABLE big (id int PRIMARY KEY, v bytea);
ALTER TABLE big ALTER v SET STORAGE EXTERNAL;
END
$mesh->class('shop');
$mesh->add_table($_, 'shop') for @TABLES;
$mesh->link('eu', 'us');
$mesh->start_relays;
ok(defined $mesh->wait_copied('eu', 'us'), 'the link streams');
ok(defined $mesh->wait_value('us', 'SELECT count(*) FROM tide.slots WHERE active AND lane = \'main\' AND region = \'eu-west\' AND free_bytes > 0', 1), 'a slot, its reader, the room on the disk');

# ---- a transaction is open for long ----

my $open = $mesh->node('us')->background_psql('postgres');
$open->query_safe(q{SET application_name = 'forgotten'; BEGIN; INSERT INTO thing VALUES (-1, 'never')});
$mesh->sql('us', "INSERT INTO thing SELECT n, 'while it is open' FROM generate_series(1, 100) n");
$mesh->settle_one('us', 'eu');
is($mesh->sql('eu', 'SELECT count(*) FROM thing'), 100, 'rows flow while a transaction is open');
ok(defined wait_until(sub { (metric('us', 'oldest_transaction_seconds') // 0) > 3 }, 30, 'the metric'), 'its age is a metric');

# ---- nearly full at the source ----

$mesh->sql('eu', q{SELECT tide.link_pause('us-east')});
ok(defined $mesh->wait_value('us', 'SELECT count(*) FROM tide.slots WHERE NOT active', 1), 'nobody reads the slot');
my $said;
ok(defined wait_until(sub { write_big(4); ($said) = $mesh->sql('us', 'SELECT round(extract(epoch FROM time_to_full)) FROM tide.slots WHERE time_to_full < \'1 hour\''); $said }, 60, 'time to full'),
	'the time until the disk is full is known');
cmp_ok($mesh->sql('us', 'SELECT free_bytes FROM tide.slots'), '>', 0, '... before it is');
my $found = finding('us', 'rows.wal');
like($found->{message} // '', qr/^slot "tide_link_eu_west_\w+" keeps \d+ (k|M)B\/s more WAL; in .* the disk is full/, 'the doctor says so') or diag(explain(doctor('us')));
is($found->{subject}, 'eu-west', '... and for whom');
ok(defined wait_until(sub { my $s = metric('us', 'wal_seconds_to_full'); defined $s && $s < 3600 }, 30, 'the metric'), '... and a metric');
cmp_ok(metric('us', 'wal_retained_bytes'), '>', 1_000_000, '... what is kept, too');
$found = finding('us', 'rows.transactions', 120);
like($found->{message} // '', qr/^a transaction has been open for .*application "forgotten"\): slots keep the WAL/, 'the open transaction is named');
$open->query_safe('ROLLBACK');
$open->quit;
$mesh->sql('eu', q{SELECT tide.link_resume('us-east')});
$mesh->settle_one('us', 'eu');
$mesh->same_tables('after the link goes on: nothing is lost', \@TABLES);
is($mesh->sql('eu', 'SELECT resyncs FROM tide.links'), 0, '... and nothing was copied again');

# ---- full at the source ----

$mesh->sql('eu', q{SELECT tide.link_pause('us-east')});
ok(defined $mesh->wait_value('us', 'SELECT count(*) FROM tide.slots WHERE NOT active', 1), 'nobody reads the slot');
my $refused = wait_until(sub { !write_big(16) }, 120, 'the server to refuse');
ok(defined $refused, 'the disk is full: the server refuses');
$mesh->node('us')->stop('immediate', fail_ok => 1);
$mesh->node('us')->_update_pid(0);
ok(mount_disk($disk, 'remount,size=1g,mode=0700'), 'room is made');
$mesh->node('us')->start;
$mesh->sql('eu', q{SELECT tide.link_resume('us-east')});
ok(write_big(1), 'it writes again');
$mesh->settle_one('us', 'eu', 120);
$mesh->same_tables('nothing is lost', \@TABLES);
cmp_ok($mesh->sql('eu', 'SELECT count(*) FROM big'), '>=', $written, '... of all that was committed');
is($mesh->sql('eu', 'SELECT resyncs FROM tide.links'), 0, '... and nothing was copied again');

# ---- full at the destination, and read-only ----

$mesh->sql('eu', "CREATE TABLESPACE small LOCATION '$room'");
$mesh->sql('eu', 'TRUNCATE thing; ALTER TABLE thing SET TABLESPACE small');
$mesh->sql('us', 'TRUNCATE thing');
$mesh->settle_one('us', 'eu');
$mesh->sql('us', q{INSERT INTO thing SELECT n, repeat(n::text, 200) FROM generate_series(100000, 160000) n});
ok(defined $mesh->wait_value('eu', 'SELECT state FROM tide.links', 'error', 60), 'full at the destination: the link waits');
like($mesh->sql('eu', 'SELECT last_error FROM tide.links'), qr/No space left on device/, '... and says why');
is($mesh->sql('eu', 'SELECT count(*) FROM tide.pending_changes'), 0, '... it is no fault of the data');
ok(mount_disk($room, 'remount,size=400m,mode=0700'), 'room is made');
$mesh->settle_one('us', 'eu', 60);
$mesh->same_tables('nothing is lost', \@TABLES);

$mesh->sql('eu', q{ALTER DATABASE postgres SET default_transaction_read_only = on});
$mesh->relay('eu')->stop;
$mesh->start_relay('eu', wait => 0);
$mesh->sql('us', q{INSERT INTO thing VALUES (1, 'written meanwhile')});
my $log = wait_until(sub { $mesh->relay('eu')->log_text =~ /read-only transaction/ }, 30, 'the log');
ok(defined $log, 'read-only at the destination: the relay says so and tries again');
$mesh->sql('eu', q{SET default_transaction_read_only = off; ALTER DATABASE postgres RESET default_transaction_read_only});
$mesh->sql('eu', q{SET default_transaction_read_only = off; SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'relay'});
$mesh->settle_one('us', 'eu', 60);
$mesh->same_tables('nothing is lost', \@TABLES);
$mesh->stop;
done_testing();
