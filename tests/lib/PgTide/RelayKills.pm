# PgTide::RelayKills
#		Both regions' relays killed with -9 again and again, at random points of their lives.
#
# Owns: what 210 and 211 share.
package PgTide::RelayKills;

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);

use PgTide::Faults;
use PgTide::Wan;

# From before the relay has opened anything to the middle of the flow.
my $LONGEST_LIFE = 1.5;

sub run
{
	my (%args) = @_;
	plan skip_all => PgTide::Wan->why_not if PgTide::Wan->why_not;

	# Small batches, so that windows are read in parts and kills come in between, too.
	my $pair = PgTide::Faults->new(form => $args{form}, slow => 0.05, sink => { batch_size => 10 });
	$pair->start_load;
	$pair->start_relays;

	my %killed = (us => 0, eu => 0);
	my %flowed = (us => 0, eu => 0);    # kills after which something had arrived since the kill before
	my %before = (us => 0, eu => 0);
	while ($killed{us} + $killed{eu} < $args{kills})
	{
		my $side = rand() < 0.5 ? 'us' : 'eu';
		sleep rand($LONGEST_LIFE);
		die "the relay of $side ended by itself:\n" . $pair->relay($side)->log_text
		  unless $pair->relay($side)->alive;
		$pair->relay($side)->kill9;
		$killed{$side}++;
		for my $at (qw(us eu))
		{
			my $now = $pair->arrived($at);
			$flowed{$at}++ if $now > $before{$at};
			$before{$at} = $now;
		}
		$pair->start_relay($side, wait => 0);
	}
	note "kills: $killed{us} us, $killed{eu} eu; events came between $flowed{us} and $flowed{eu} of them";
	cmp_ok($flowed{$_}, '>=', 10, "events flowed to $_ in between, so kills hit work") for qw(us eu);
	$pair->stop_load;
	$pair->verdict("after $args{kills} kills");
	is_deeply($pair->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
	done_testing();
	return;
}

1;
