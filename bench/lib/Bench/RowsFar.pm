# Bench::RowsFar
#		How much of a bad link's throughput replication gets: 200 ms there and back, 50 ms of jitter, 1 % loss, 16 Mbit/s.
#
# What such a link gives one TCP connection is what pg_recvlogical gets, which reads the server's stream and does nothing with
# it.  Native and pg_tide read the same stream of a table of the same shape, and store the rows.  All three are connected
# throughout; in turn each gets one transaction, and the time is from its commit until the last row has arrived.
package Bench::RowsFar;

use strict;
use warnings;

use Time::HiRes qw(time);

use Bench::Util qw($MESH_CONF one median say_progress);
use PgTide::Mesh;
use PgTide::Process;
use PgTide::Wan;
use PgTide::Test qw(wait_until);

my $ONE_WAY_MS = 100;
my $JITTER_MS = 25;    # one way
my $LOSS = 1;          # percent
my $RATE = 16;         # Mbit/s: less than any of them could store
my $LIMIT = 300;       # seconds

my @WAYS = qw(stream native tide);
my %DB = (stream => 'native', native => 'native', tide => 'postgres');

sub set_up
{
	my ($mesh) = @_;
	for my $side ($mesh->sides)
	{
		one($mesh->node($side), 'CREATE DATABASE native');
		one($mesh->node($side), "CREATE TABLE far_$_ (id bigint PRIMARY KEY, body text NOT NULL, at timestamptz NOT NULL)", $DB{$_}) for @WAYS;
		# As many bytes as a stamp, so that a row is as long on its way as pg_tide's.
		one($mesh->node($side), "ALTER TABLE far_$_ ADD stamp bytea NOT NULL DEFAULT '\\x000102030405060708090a0b'", $DB{$_}) for qw(stream native);
	}
	$mesh->class('shop');
	$mesh->add_table('far_tide', 'shop');
	$mesh->link('eu', 'us');
	$mesh->start_relays;
	defined $mesh->wait_copied('eu', 'us') or die 'the link does not stream';
	my $us = $mesh->node('us');
	one($us, "CREATE PUBLICATION far_$_ FOR TABLE far_$_", 'native') for qw(stream native);
	my $from = "host=$PgTide::Wan::ADDRESS{us} port=" . $us->port . ' dbname=native user=' . one($us, 'SELECT current_user');
	one($mesh->node('eu'), "CREATE SUBSCRIPTION far_native CONNECTION '$from' PUBLICATION far_native WITH (binary = true, copy_data = false)", 'native');
	return $from;
}

# Reads the stream into a file.
sub start_stream
{
	my ($mesh, $from, $file) = @_;
	one($mesh->node('us'), q{SELECT pg_create_logical_replication_slot('far_stream', 'pgoutput')}, 'native');
	my $process = PgTide::Process->new(
		name    => 'pg_recvlogical',
		netns   => $mesh->wan->netns('eu'),
		log     => "$ENV{TIDE_DATA}/pg_recvlogical.log",
		command => [
			qw(pg_recvlogical --start --slot=far_stream --no-loop -o proto_version=1 -o publication_names=far_stream -o binary=true),
			'-d', "$from application_name=pg_recvlogical", '-f', $file ]);
	$process->start;
	my $active = q{SELECT count(*) FROM pg_stat_replication WHERE application_name = 'pg_recvlogical'};
	defined wait_until(sub { one($mesh->node('us'), $active) == 1 }, 60, 'pg_recvlogical to stream') or die 'no stream';
	return $process;
}

# Has this text arrived at the end of the file?
sub at_end
{
	my ($file, $text) = @_;
	open my $in, '<:raw', $file or return 0;
	my $size = -s $in;
	seek $in, $size > 4096 ? -4096 : 0, $size > 4096 ? 2 : 0;
	local $/;
	return index(<$in> // '', $text) >= 0;
}

# Seconds from the commit of so many rows to the last one's arrival.
sub run
{
	my ($mesh, $file, $way, $rows, $mark) = @_;
	my ($us, $eu) = map { $mesh->node($_) } qw(us eu);
	my $body = q{'kalo benti sura mane tole kira data seno pelu fati gora line rota' || md5(n::text)};
	one($us, "INSERT INTO far_$way SELECT ${mark}::bigint * 1000000 + n, CASE WHEN n = $rows THEN 'END-$mark' ELSE $body END, now() FROM generate_series(1, $rows) n", $DB{$way});
	my $start = time;
	my $there = $way eq 'stream' ? sub { at_end($file, "END-$mark") }
	  : sub { one($eu, "SELECT count(*) FROM far_$way WHERE id = ${mark}::bigint * 1000000 + $rows", $DB{$way}) };
	defined wait_until($there, $LIMIT, "the rows by $way") or die "$way: the rows did not arrive\n";
	return time - $start;
}

sub measure
{
	my ($quick) = @_;
	die PgTide::Wan->why_no_delay if PgTide::Wan->why_no_delay;
	my $rows = $quick ? 1_000 : 100_000;
	my $mesh = PgTide::Mesh->new(wan => 1, conf => $MESH_CONF);
	my $file = "$ENV{TIDE_DATA}/far.stream";
	my $stream = start_stream($mesh, set_up($mesh), $file);
	my %seconds;
	$mesh->wan->delay($ONE_WAY_MS, $JITTER_MS);
	$mesh->wan->loss($LOSS);
	$mesh->wan->rate($RATE);
	# In the first round TCP finds out how much the link can take: it does not count.
	for my $round (0 .. ($quick ? 1 : 5))
	{
		for my $way (@WAYS)
		{
			push @{ $seconds{$way} }, run($mesh, $file, $way, $rows, $round);
			say_progress(sprintf 'rows-far: round %d, %s: %.1f s', $round, $way, $seconds{$way}[-1]);
		}
	}
	$mesh->wan->delay(0);
	$mesh->wan->loss(0);
	$mesh->wan->rate(0);
	shift @$_ for values %seconds;
	my $restarts = () = $mesh->relay('eu')->log_text =~ /trying again/g;
	die "the link was interrupted $restarts times\n" if $restarts;
	$stream->stop;
	one($mesh->node('eu'), 'DROP SUBSCRIPTION far_native', 'native');
	$mesh->stop;
	$mesh->node($_)->stop for $mesh->sides;
	return {
		rows => $rows, round_trip_ms => 2 * $ONE_WAY_MS, loss => $LOSS, rate => $RATE, jitter_ms => 2 * $JITTER_MS, seconds => \%seconds,
		per_second => { map { $_ => $rows / median(@{ $seconds{$_} }) } @WAYS },
		share => { map { my $way = $_; $way => median(@{ $seconds{stream} }) / median(@{ $seconds{$way} }) } qw(native tide) } };
}

1;
