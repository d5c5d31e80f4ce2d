# The link between regions: cut, one way, slow, lossy, flapping, with a reader that stands still.  Local writes go on, memory
# stays small, and afterwards both regions are equal.  TIDE_CUT_SECONDS: how long the first cut lasts at least.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep time);

use PgTide::Mesh;
use PgTide::RowLoad;
use PgTide::Test qw(wait_until);
use PgTide::Wan;

plan skip_all => PgTide::Wan->why_not if PgTide::Wan->why_not;
plan skip_all => PgTide::Wan->why_no_delay if PgTide::Wan->why_no_delay;

my $mesh = PgTide::Mesh->new(wan => 1, transport => $ENV{TIDE_TRANSPORT} // 'direct');
my $wan = $mesh->wan;
my $load = PgTide::RowLoad->new(mesh => $mesh, rate => 40);
$mesh->link_all;
$mesh->start_relays;
$load->start;

sub flows
{
	my ($what, $limit) = @_;
	my @stuck = grep { !defined $load->wait_arrivals($_->[1], $_->[0], 20, $limit // 60) } $mesh->ways;
	return is(join(' ', map { "$_->[1]->$_->[0]" } @stuck), '', "$what: rows flow both ways");
}

sub writes_go_on
{
	my ($what) = @_;
	my @stuck = grep { !defined $load->wait_arrivals($_, $_, 50, 30) } $mesh->sides;
	return is("@stuck", '', "$what: local writes go on");
}

# KiB.
sub memory
{
	my ($side) = @_;
	return ($mesh->relay($side)->memory_kib)[0];
}

flows('at first', 90);

my $heal_at = time + ($ENV{TIDE_CUT_SECONDS} // 0);
my %small = map { $_ => memory($_) } $mesh->sides;
$wan->cut;
writes_go_on('a black hole');
my %arrived = map { $_->[0] => $load->count(@$_) } $mesh->ways;
ok(defined $mesh->wait_value('eu', q{SELECT max(seconds) > 6 FROM tide.lag}, 't'), 'a black hole: the lag grows');
ok(defined $mesh->wait_value('us', q{SELECT bool_and(NOT active) FROM pg_replication_slots}, 't', 30), '... the servers notice');
writes_go_on('a black hole');
writes_go_on('a long one') while time < $heal_at;
cmp_ok(memory($_), '<', $small{$_} + 16 * 1024, "... $_: the relay stays as small as it was") for $mesh->sides;
$wan->heal;
flows('after a black hole', 60 + ($ENV{TIDE_CUT_SECONDS} // 0) / 2);

for my $way (qw(ab ba))
{
	$wan->cut($way);
	writes_go_on("a black hole one way ($way)");
	sleep 2;
	writes_go_on("a black hole one way ($way)");
	$wan->heal($way);
	flows("after a black hole one way ($way)");
}

$wan->cut_cleanly;
writes_go_on('connections are refused');
$wan->heal_cleanly;
flows('after connections were refused');

$wan->delay(100, 25);
$wan->loss(1);
flows('200 ms there and back, 1 % loss');

# The link comes and goes every second.
my %connects = map { $_ => scalar(() = $mesh->relay($_)->log_text =~ /\n/g) } $mesh->sides;
for (1 .. 6)
{
	$wan->cut;
	sleep 1;
	$wan->heal;
	sleep 1;
}
$wan->delay(0);
$wan->loss(0);
flows('after flapping', 90);
for my $side ($mesh->sides)
{
	my $lines = scalar(() = $mesh->relay($side)->log_text =~ /\n/g) - $connects{$side};
	cmp_ok($lines, '<', 120, "... without a storm of attempts at $side ($lines lines of log)");
}

# A reader that stands still: nothing piles up, neither here nor there.
my %before = map { $_ => memory($_) } $mesh->sides;
$mesh->relay('eu')->freeze;
$mesh->sql('us', q{INSERT INTO items (id, owner, large) SELECT (100000 + n) * 4 + 1, 1, repeat(md5(n::text), 500) FROM generate_series(1, 3000) n});
writes_go_on('a reader that stands still');
$mesh->relay('eu')->thaw;
$wan->rate(16);
flows('a slow link', 120);
$wan->rate(0);
$load->stop;
$mesh->settle('every region has what the others committed', 120);
for my $side ($mesh->sides)
{
	cmp_ok(memory($side), '<', $before{$side} + 64 * 1024, sprintf '%s: the relay has %d MiB, and had %d before it all piled up',
		$side, memory($side) / 1024, $before{$side} / 1024);
}
$mesh->same_tables('after all this: every table is the same, byte for byte', \@PgTide::RowLoad::TABLES);
$mesh->nothing_special('nothing was parked, nothing was copied twice');
is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
